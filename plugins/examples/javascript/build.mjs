// Makes hello-js.wasm. Nothing of the operating system goes in: the gateway gives a plugin HTTP and settings only.
import { cp, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

await cp('../../../wit/v0.1', 'wit/deps/provider', { recursive: true });
const { component } = await componentize({
  sourcePath: 'hello.js',
  witPath: 'wit',
  worldName: 'hello',
  disableFeatures: ['random', 'stdio', 'clocks', 'http', 'fetch-event'],
});
await writeFile('hello-js.wasm', component);
console.log(`hello-js.wasm: ${(component.length / 2 ** 20).toFixed(1)} MiB`);
