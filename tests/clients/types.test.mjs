// push.d.ts: the compiler accepts what pages write, refuses what they should not, and knows of all that push.js gives.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { connect } from '../../examples-c/www/push.js';
import { test } from '../harness/host.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

test('tsc has nothing to say about a page that uses push.js', async () => {
  const words = [at('../node_modules/typescript/bin/tsc'), '--noEmit', '--strict', '--exactOptionalPropertyTypes',
    '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler', '--lib', 'es2022,dom'];
  const said = await new Promise((resolve) => {
    execFile(process.execPath, [...words, at('types.ts')], (error, stdout, stderr) => resolve(stdout + stderr));
  });
  assert.equal(said, '');
});

test('push.d.ts and push.js have the same members', () => {
  const program = ts.createProgram([at('../../examples-c/www/push.d.ts')], {});
  const checker = program.getTypeChecker();
  const file = program.getSourceFile(at('../../examples-c/www/push.d.ts'));
  const declared = checker.getExportsOfModule(checker.getSymbolAtLocation(file)).find(({ name }) => name === 'Push');
  const push = connect('http://127.0.0.1:1/push', { transports: ['stream'] });
  push.close();
  assert.deepEqual([...declared.members.keys()].sort(), Object.keys(push).sort());
});
