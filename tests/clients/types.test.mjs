// push.d.ts: the compiler accepts good code of pages, refuses wrong code, and knows everything that push.js offers.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { connect } from '../../examples-c/www/push.js';
import { test } from '../harness/host.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

// The output of tsc for some files, with the settings of a page's project.
function compile(compiler, ...files) {
  const words = [at(`../node_modules/${compiler}/bin/tsc`), '--noEmit', '--strict', '--exactOptionalPropertyTypes',
    '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler', '--lib', 'es2022,dom'];
  return new Promise((resolve) => {
    execFile(process.execPath, [...words, ...files], (error, stdout, stderr) => resolve(stdout + stderr));
  });
}

// The example at the top of push.js, without its dots.
function example() {
  const lines = readFileSync(at('../../examples-c/www/push.js'), 'utf8').split('\n');
  const first = lines.findIndex((line) => line.startsWith('//   import'));
  const code = lines.slice(first, lines.indexOf('//', first)).map((line) => line.replace(/^\/\/ {3}/, ''));
  assert.ok(code.length > 8 && code.join().includes('onstate: (state, why) => {'), code.join('\n'));
  return code.join('\n').replaceAll('…', '').replace("'./push.js'", JSON.stringify(at('../../examples-c/www/push.js')));
}

for (const compiler of ['typescript', 'typescript-7']) {
  test(`${compiler} has nothing to say about a page that uses push.js, nor about its example`, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'push-types-'));
    try {
      writeFileSync(join(directory, 'example.ts'), example());
      assert.equal(await compile(compiler, at('types.ts'), join(directory, 'example.ts')), '');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

test('push.d.ts and push.js have the same members', () => {
  const program = ts.createProgram([at('../../examples-c/www/push.d.ts')], {});
  const checker = program.getTypeChecker();
  const file = program.getSourceFile(at('../../examples-c/www/push.d.ts'));
  const declared = checker.getExportsOfModule(checker.getSymbolAtLocation(file)).find(({ name }) => name === 'Push');
  const push = connect('http://127.0.0.1:1/push', { transports: ['stream'] });
  push.close();
  assert.deepEqual([...declared.members.keys()].sort(), Object.keys(push).sort());
});
