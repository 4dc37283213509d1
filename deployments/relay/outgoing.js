'use strict';

/*
 * One request to another service: its whole answer within a time, or an error with a code and no address in it,
 * since an address may hold a signature. HTTPS_PROXY and NO_PROXY are honoured, which Node itself does not do.
 */

const http = require('http');
const https = require('https');

const ANSWER_BYTES = 1 << 20;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function failure(code) {
  return Object.assign(new Error(code), { code });
}

/** Tell whether a host is reached without the proxy: it is named, or lies below a name. */
function isDirect(host, direct) {
  const names = direct.map((name) => name.replace(/^\./, ''));
  return names.some((name) => name === '*' || host === name || host.endsWith(`.${name}`));
}

/** Return a socket to the host behind the proxy. */
function tunnel(proxy, host, port, onRequest) {
  return new Promise((resolve, reject) => {
    const { hostname, port: proxyPort } = new URL(proxy);
    const options = { host: hostname, port: proxyPort || 80, method: 'CONNECT', path: `${host}:${port}`, agent: false };
    const request = http.request({ ...options, headers: { Host: `${host}:${port}` } });
    request.on('connect', (answer, socket) => {
      if (answer.statusCode === 200) resolve(socket);
      else reject(failure(`proxy answered ${answer.statusCode}`));
    });
    request.on('response', () => reject(failure('proxy refused'))).on('error', reject).end();
    onRequest(request);
  });
}

function collect(answer, resolve, reject) {
  const chunks = [];
  let size = 0;
  answer.on('data', (chunk) => {
    size += chunk.length;
    if (size > ANSWER_BYTES) answer.destroy(failure('answer too long'));
    else chunks.push(chunk);
  });
  const whole = () => ({ status: answer.statusCode, headers: answer.headers, text: Buffer.concat(chunks).toString() });
  answer.on('end', () => resolve(whole()));
  answer.on('aborted', () => reject(failure('answer broke off'))).on('error', reject);
}

async function send(method, url, headers, body, network, onRequest) {
  const secure = url.protocol === 'https:';
  const options = { method, headers, agent: false, ca: network.authorities };
  if (secure && network.proxy && !isDirect(url.hostname, network.direct)) {
    options.socket = await tunnel(network.proxy, url.hostname, url.port || 443, onRequest);
  }
  return new Promise((resolve, reject) => {
    const request = (secure ? https : http).request(url, options, (answer) => collect(answer, resolve, reject));
    onRequest(request.on('error', reject));
    request.end(body);
  });
}

/** Return status, headers and text of the answer; throw an error whose code says why there is none. */
async function ask(method, url, { headers, body, network, timeoutMs = 10000 }) {
  let current;
  let timer;
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => {
      reject(failure('no answer in time'));
      if (current) current.destroy();
    }, timeoutMs);
  });
  const answer = send(method, url, headers, body, network, (request) => {
    current = request;
  });
  answer.catch(() => {}); // when it is late, nobody waits for it any more
  try {
    return await Promise.race([answer, late]);
  } catch (error) {
    throw failure(error.code || 'no answer');
  } finally {
    clearTimeout(timer);
  }
}

module.exports = { ask, pause };
