'use strict';

/*
 * Runs of the flow, started through Prefect's REST API. The event's id is the idempotency key, so the same event
 * never makes two runs. Without Prefect, or when it does not answer, the event waits for `insitu watch`.
 */

const { ask, pause } = require('./outgoing');

const TIMEOUT_MS = 8000;
const ATTEMPTS = 2;

function headersOf({ key, login }) {
  const authorization = key ? `Bearer ${key}` : login ? `Basic ${Buffer.from(login).toString('base64')}` : undefined;
  return { 'Content-Type': 'application/json', ...(authorization && { Authorization: authorization }) };
}

async function prefect(setup, method, path, value) {
  const body = value === undefined ? undefined : Buffer.from(JSON.stringify(value));
  const options = { headers: headersOf(setup.prefect), body, network: setup.network, timeoutMs: TIMEOUT_MS };
  const { status, text } = await ask(method, new URL(setup.prefect.url + path), options);
  if (status >= 300) throw Object.assign(new Error('refused'), { code: `prefect answered ${status}`, status });
  return JSON.parse(text);
}

function deploymentOf(setup, model) {
  const [flow, name] = setup.release.deployment.replace('{model}', model).split('/');
  return prefect(setup, 'GET', `/deployments/name/${encodeURIComponent(flow)}/${encodeURIComponent(name)}`);
}

async function start(setup, event) {
  const deployment = await deploymentOf(setup, event.model);
  const asked = { parameters: { model: event.model, site: event.site }, idempotency_key: `event-${event.id}` };
  return (await prefect(setup, 'POST', `/deployments/${deployment.id}/create_flow_run`, asked)).id;
}

/** Start the flow's run, or find the one that the event started; return its id, or null when it could not be. */
async function startRun(setup, event) {
  if (!setup.prefect.url) return null;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(setup, event);
    } catch (error) {
      const isRefusal = error.status < 500 && error.status !== 408 && error.status !== 429;
      if (isRefusal || attempt === ATTEMPTS) {
        console.log(JSON.stringify({ run: null, event: event.id, reason: error.code || 'no answer' }));
        return null;
      }
      await pause(500);
    }
  }
}

/** Tell whether Prefect knows a deployment of every model: "ok", "none" without Prefect, or a reason. */
async function probeRuns(setup) {
  if (!setup.prefect.url) return 'none';
  try {
    await Promise.all(setup.release.models.map((model) => deploymentOf(setup, model)));
    return 'ok';
  } catch (error) {
    return error.code || 'no answer';
  }
}

module.exports = { probeRuns, startRun };
