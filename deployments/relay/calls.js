'use strict';

/*
 * A call: who sent it, and what it says. It is closed and small, so that nobody can send rows with it, and
 * no refusal repeats what came.
 */

const crypto = require('crypto');

const SKEW_S = 300;
const CODES = {
  400: 'bad-call',
  401: 'unknown-caller',
  404: 'not-found',
  405: 'method',
  413: 'too-large',
  415: 'not-json',
  503: 'not-now',
};
const FORMS = {
  model: [/^[a-z0-9][a-z0-9_-]{0,99}$/, 'a model of this site'],
  container: [/^(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*$/, '3 to 63 of a-z, 0-9 and single -'],
  prefix: [/^(?!\/)(?!.*(^|\/)\.\.?(\/|$))[\w=.\-/]{1,256}$/, 'up to 256 of A-Z, a-z, 0-9, _ = . - and /'],
  batch: [/^[A-Za-z0-9][\w.-]{0,99}$/, 'a label of up to 100 of A-Z, a-z, 0-9, _ . and -'],
};
const KEY_FORM = /^[\x21-\x7e]{1,200}$/;

/** A request that is not taken: *wanted* says what would have been. */
class Refusal extends Error {
  constructor(status, wanted) {
    super(wanted);
    this.status = status;
    this.wanted = wanted;
    this.code = CODES[status] || 'error';
  }
}

/** Compare two texts in a time that tells nothing about them, whatever their lengths. */
function same(ours, theirs) {
  const digest = (text) => crypto.createHash('sha256').update(text).digest();
  return crypto.timingSafeEqual(digest(ours), digest(theirs));
}

/** Return the signature of a request: of its method, path, moment, idempotency key and body. */
function signatureOf(key, method, path, timestamp, idempotencyKey, body) {
  const head = [method, path, timestamp, idempotencyKey, ''].join('\n');
  return 'sha256=' + crypto.createHmac('sha256', key).update(head).update(body).digest('hex');
}

/** Accept a signed request, or one with the key itself unless the site wants signatures; throw a Refusal. */
function authenticate(setup, request, path, body) {
  const headers = request.headers;
  const signature = headers['x-relay-signature'];
  const plain = headers['x-relay-key'];
  const anyKey = (holds) => setup.keys.map(holds).includes(true); // looks at every key: the time tells nothing
  if (signature) {
    const timestamp = headers['x-relay-timestamp'] || '';
    const fresh = /^\d{1,12}$/.test(timestamp) && Math.abs(Date.now() / 1000 - Number(timestamp)) <= SKEW_S;
    const key = headers['idempotency-key'] || '';
    const known = anyKey((ours) => same(signatureOf(ours, request.method, path, timestamp, key, body), signature));
    if (known && fresh) return;
    if (known) throw new Refusal(401, `an X-Relay-Timestamp, seconds since 1970, within ${SKEW_S} s of this clock`);
  } else if (plain && !setup.release.signed_only) {
    if (anyKey((ours) => same(ours, plain))) return;
  }
  throw new Refusal(401, setup.release.signed_only ? 'X-Relay-Signature' : 'X-Relay-Signature or X-Relay-Key');
}

function parsed(body) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (error) {
    throw new Refusal(400, 'one JSON object in UTF-8');
  }
}

/** Return the call; throw a Refusal that names the key that is wrong, and never its value. */
function readCall(request, body, models) {
  if (!/^application\/json\b/i.test(request.headers['content-type'] || '')) {
    throw new Refusal(415, 'Content-Type: application/json');
  }
  const call = parsed(body);
  if (call === null || typeof call !== 'object' || Array.isArray(call)) throw new Refusal(400, 'one JSON object');
  const names = Object.keys(FORMS);
  const unknown = Object.keys(call).some((name) => !names.includes(name));
  if (unknown) throw new Refusal(400, `no keys but ${names.join(', ')}`);
  for (const name of names) {
    const value = call[name];
    const [form, wanted] = FORMS[name];
    if (value === undefined && name !== 'model') continue;
    if (typeof value !== 'string' || !form.test(value)) throw new Refusal(400, `${name}: ${wanted}`);
  }
  if (!models.includes(call.model)) throw new Refusal(400, 'model: a model of this site');
  const key = request.headers['idempotency-key'];
  if (key !== undefined && !KEY_FORM.test(key)) {
    throw new Refusal(400, 'Idempotency-Key: up to 200 visible ASCII characters');
  }
  return call;
}

module.exports = { Refusal, authenticate, readCall };
