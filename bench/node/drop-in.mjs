// The npm package with the original's interface: drop-in.mjs PACKAGE, its directory. Never keeps anything.

import { pathToFileURL } from 'node:url';

const { AllDataPeerServer } = await import(pathToFileURL(`${process.argv[2]}/index.js`));

const peer = new AllDataPeerServer({ hostname: '127.0.0.1', port: 0 });
peer.on('_put', (key, event, callback) => callback());
peer.listen(() => console.log(`listening on http://127.0.0.1:${peer.server.address().port}`));
