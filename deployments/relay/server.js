'use strict';

/*
 * The relay: takes "data is ready" calls at the site, and writes each down as an event in the site's state.
 * Where Prefect's address is known, it also starts the run at once. It holds no data and asks for none.
 *
 *   POST /ready    {"model", "container"?, "prefix"?, "batch"?}; signed with the shared key, or with the key itself
 *   GET  /ready    the same key: whether the event store takes events, and whether Prefect knows the models
 *   GET  /health   whether the relay has what it needs, and which release it is
 *
 * Node 16, no packages. It listens where PORT says: a number, or the named pipe that IIS hands to it.
 */

const http = require('http');
const { Refusal, authenticate, readCall } = require('./calls');
const { identityOf, keepEvent, probeStore } = require('./events');
const { probeRuns, startRun } = require('./runs');
const { readSetup } = require('./setup');

const BODY_BYTES = 4096;
const MOST_AT_ONCE = 32;

/** Return the body of a request; a larger one than a call can be is refused before it has come. */
function bodyOf(request) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    let size = 0;
    const take = (chunk) => {
      size += chunk.length;
      if (size <= BODY_BYTES) chunks.push(chunk);
      else refuse();
    };
    const breakOff = () => reject(new Refusal(400, 'a whole body'));
    const refuse = () => {
      request.off('data', take).resume(); // an end of the connection here would take the answer with it
      reject(new Refusal(413, `a body of at most ${BODY_BYTES} bytes`));
    };
    if (Number(request.headers['content-length']) > BODY_BYTES) refuse();
    else {
      request.on('data', take).on('end', () => resolve(Buffer.concat(chunks)));
      request.on('error', breakOff).on('aborted', breakOff).on('close', breakOff); // after the end they change nothing
    }
  });
}

/** Write the event down first: what comes after may fail without losing it. */
async function takeCall(setup, request, body) {
  const call = readCall(request, body, setup.release.models);
  const event = identityOf(call, request.headers, setup.release.site);
  const created = await keepEvent(setup, event);
  const run = await startRun(setup, event);
  return { status: created ? 201 : 200, answer: { event: event.id, created, run }, model: event.model };
}

async function probe(setup) {
  const [store, runs] = await Promise.all([probeStore(setup), probeRuns(setup)]);
  const ready = store === 'ok' && (runs === 'ok' || runs === 'none');
  return { status: ready ? 200 : 503, answer: { ready, store, runs } };
}

function health(setup) {
  const { digest, site } = setup.release;
  const ok = setup.lacking.length === 0;
  return { status: ok ? 200 : 503, answer: { status: ok ? 'ok' : 'incomplete', site, digest, lacking: setup.lacking } };
}

/** Return status and answer of one request. */
async function handle(setup, request) {
  const path = request.url.split('?')[0];
  const asked = `${request.method} ${path}`;
  if (asked === 'GET /health') return health(setup);
  if (path !== '/ready') throw new Refusal(404, 'POST /ready, GET /ready or GET /health');
  if (request.method !== 'POST' && request.method !== 'GET') throw new Refusal(405, 'POST or GET');
  if (setup.lacking.length) throw new Refusal(503, 'a relay that is set up: see /health');
  const body = await bodyOf(request);
  authenticate(setup, request, path, body);
  return request.method === 'GET' ? probe(setup) : takeCall(setup, request, body);
}

/** Return what is answered to an error: never its text, which is another service's. */
function refusalOf(error) {
  if (!(error instanceof Refusal)) console.log(JSON.stringify({ error: (error && error.code) || 'unknown' }));
  const refusal = error instanceof Refusal ? error : new Refusal(500, 'a relay without an error: see its log');
  return { status: refusal.status, answer: { error: refusal.code, wanted: refusal.wanted } };
}

function send(response, { status, answer }) {
  const headers = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' };
  headers['X-Content-Type-Options'] = 'nosniff';
  if (status === 503) headers['Retry-After'] = '5';
  if (status === 405) headers.Allow = 'GET, POST';
  if (status === 413) headers.Connection = 'close'; // the rest of the body is not read
  response.writeHead(status, headers);
  response.end(JSON.stringify(answer) + '\n');
}

/** Log what was asked, what became of it, and how long it took; nothing that a caller chose. */
function log(request, { status, answer, model }, since) {
  const asked = request.url.split('?')[0];
  const path = ['/ready', '/health'].includes(asked) ? asked : '-';
  const line = { time: new Date(since).toISOString(), method: request.method, path, status, ms: Date.now() - since };
  console.log(JSON.stringify({ ...line, model, event: answer.event, run: answer.run }));
}

function serve(setup) {
  let atOnce = 0;
  const server = http.createServer({ maxHeaderSize: 8192 }, async (request, response) => {
    const since = Date.now();
    atOnce += 1;
    let outcome;
    try {
      if (atOnce > MOST_AT_ONCE) throw new Refusal(503, `at most ${MOST_AT_ONCE} calls at once`);
      outcome = await handle(setup, request);
    } catch (error) {
      outcome = refusalOf(error);
    }
    atOnce -= 1;
    log(request, outcome, since);
    send(response, outcome);
  });
  server.headersTimeout = 10000; // whoever sends slowly is hung up on
  server.requestTimeout = 20000;
  server.keepAliveTimeout = 15000;
  return server;
}

function main() {
  const server = serve(readSetup(__dirname, process.env));
  const port = process.env.PORT || '8080';
  if (/^\d+$/.test(port)) server.listen(Number(port), process.env.RELAY_HOST || '127.0.0.1');
  else server.listen(port); // a named pipe, or a socket
  server.on('listening', () => console.log(JSON.stringify({ listening: true, node: process.version })));
  process.on('SIGTERM', () => {
    server.close(() => process.exit(0));
    setTimeout(() => process.exit(0), 10000).unref();
  });
}

main();
