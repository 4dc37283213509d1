'use strict';

/*
 * An event: the blob events/MODEL/ID.json of the site's state, written once. Its name follows from what the call
 * says, so a call that is sent again finds the event of the first, and nothing needs to be read: a signature that
 * may create, and nothing else, is enough.
 */

const crypto = require('crypto');
const { Refusal } = require('./calls');
const { ask, pause } = require('./outgoing');

const ATTEMPTS = 3;
const EXISTS = 'BlobAlreadyExists';
const PROBE = 'events/.relay'; // insitu takes no hidden name for a blob

/**
 * Return the event that a call is. Two calls are one event when they say the same and have the same Idempotency-Key
 * or, without one, the same batch. A signed call without either is one event however often it is played again.
 */
function identityOf(call, headers, site) {
  const { model, container = null, prefix = null, batch = null } = call;
  const key = headers['idempotency-key'];
  const once = key || batch ? null : headers['x-relay-signature'] || crypto.randomUUID();
  const said = JSON.stringify([site, model, container, prefix, batch, key || null, once]);
  const id = crypto.createHash('sha256').update(said).digest('hex').slice(0, 32);
  const received = new Date().toISOString();
  return { version: 1, event: 'data-ready', id, site, model, container, prefix, batch, received };
}

/** Return the request's signature by the account key (Shared Key of the blob service, version 2009-09-19 and later). */
function sharedKey(account, accountKey, url, headers, size) {
  const own = Object.keys(headers).filter((name) => name.startsWith('x-ms-')).sort();
  const content = [String(size || ''), headers['Content-MD5'], headers['Content-Type']];
  const lines = ['PUT', '', '', ...content, '', '', '', '*', '', ''];
  const text = [...lines, ...own.map((name) => `${name}:${headers[name]}`), `/${account}${url.pathname}`].join('\n');
  const signature = crypto.createHmac('sha256', Buffer.from(accountKey, 'base64')).update(text, 'utf8');
  return `SharedKey ${account}:${signature.digest('base64')}`;
}

/** Tell whether a refusal means that the blob is there: who may only create may not overwrite. */
function meansExists(code, sas) {
  const mayCreate = new URLSearchParams(sas).get('sp') || '';
  if (code === 'AuthorizationPermissionMismatch') return mayCreate.includes('c');
  return code === 'UnauthorizedBlobOverwrite';
}

/** Return the code of the service's answer to a blob that must not be there yet; empty when it was written. */
async function create(setup, name, body) {
  const { account_url: address, account, container, api_version: version } = setup.release.state;
  const url = new URL(`${address}/${container}/${name}`);
  const headers = {
    'Content-Type': 'application/json',
    'Content-MD5': crypto.createHash('md5').update(body).digest('base64'),
    'Content-Length': String(body.length),
    'If-None-Match': '*',
    'x-ms-blob-type': 'BlockBlob',
    'x-ms-date': new Date().toUTCString(),
    'x-ms-version': version,
  };
  if (setup.sas) url.search = setup.sas;
  else headers.Authorization = sharedKey(account, setup.accountKey, url, headers, body.length);
  const { status, headers: got } = await ask('PUT', url, { headers, body, network: setup.network });
  if (status === 201) return '';
  const code = got['x-ms-error-code'] || (status === 409 ? EXISTS : String(status));
  return meansExists(code, setup.sas) ? EXISTS : code;
}

const passing = (code) => /^(408|429|5\d\d|ServerBusy|InternalError|OperationTimedOut)$/.test(code);

/** Return the code after some attempts: to ask again is safe, since the name is the event's. */
async function createSurely(setup, name, body) {
  let code = 'no answer';
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    if (attempt) await pause(200 * 4 ** attempt * (0.5 + Math.random()));
    try {
      code = await create(setup, name, body);
      if (!passing(code)) return code;
    } catch (error) {
      code = error.code || 'no answer';
    }
  }
  return code;
}

/** Write the event down; return false when it was there. Throw a Refusal when it cannot be. */
async function keepEvent(setup, event) {
  const name = `events/${event.model}/${event.id}.json`;
  const code = await createSurely(setup, name, Buffer.from(JSON.stringify(event)));
  if (code === '') return true;
  if (code === EXISTS) return false;
  console.log(JSON.stringify({ store: code }));
  throw new Refusal(503, 'a store that takes the event: call again later');
}

/** Tell whether the store takes events: "ok", or the code of its refusal. */
async function probeStore(setup) {
  const code = await createSurely(setup, PROBE, Buffer.from('{}'));
  return code === '' || code === EXISTS ? 'ok' : code;
}

module.exports = { identityOf, keepEvent, probeStore };
