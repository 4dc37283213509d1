'use strict';

/*
 * What the relay knows of its site: release.json, which `insitu deploy relay` writes, and the secrets, which are
 * application settings of the web app and come as environment variables.
 */

const fs = require('fs');
const path = require('path');
const tls = require('tls');

const KEY_CHARACTERS = 32;

/** Return the text of a file of this folder, or what stands for it when there is none. */
function textOf(folder, name, otherwise) {
  try {
    return fs.readFileSync(path.join(folder, name), 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return otherwise;
    throw error;
  }
}

/** Return the authorities to trust: Node's own unless the site has one. */
function authoritiesOf(folder) {
  const own = textOf(folder, 'authorities.pem', '');
  return own ? [...tls.rootCertificates, own] : undefined;
}

/** Return what is missing, in words for people: names and never values. */
function lackingOf(release, keys, env) {
  const lacking = [];
  if (!release.digest) lacking.push('release.json, which `insitu deploy relay` writes');
  if (!keys.length) lacking.push('the application setting RELAY_KEY');
  else if (keys.some((key) => key.length < KEY_CHARACTERS)) {
    lacking.push(`a RELAY_KEY of at least ${KEY_CHARACTERS} characters`);
  }
  if (!env.RELAY_STATE_SAS === !env.RELAY_STATE_KEY) {
    lacking.push('one of the application settings RELAY_STATE_SAS and RELAY_STATE_KEY');
  }
  return lacking;
}

/** Return everything that the relay knows; a second key, after a space, lets the first one be replaced in peace. */
function readSetup(folder, env) {
  const release = JSON.parse(textOf(folder, 'release.json', '{}'));
  const keys = (env.RELAY_KEY || '').split(/\s+/).filter(Boolean);
  return {
    release,
    keys,
    lacking: lackingOf(release, keys, env),
    sas: (env.RELAY_STATE_SAS || '').trim().replace(/^\?/, ''),
    accountKey: (env.RELAY_STATE_KEY || '').trim(),
    prefect: {
      url: (env.PREFECT_API_URL || '').replace(/\/+$/, ''),
      key: env.PREFECT_API_KEY,
      login: env.PREFECT_API_AUTH_STRING,
    },
    network: {
      proxy: env.HTTPS_PROXY || env.https_proxy || '',
      direct: (env.NO_PROXY || env.no_proxy || '').split(',').map((host) => host.trim()).filter(Boolean),
      authorities: authoritiesOf(folder),
    },
  };
}

module.exports = { readSetup };
