// Loaded by `jco serve --jco-import`, in the process that serves, before the component.
//
// jco has no options for what is done here. Never changes how HTTP or the component works: what
// the tests find is what a user of jco finds.

import process from "node:process";
import { _setPreopens } from "@bytecodealliance/preview2-shim/filesystem";
import { HTTPServer } from "@bytecodealliance/preview2-shim/http";

// Unless told otherwise, jco opens the whole disk for a component. It gets one directory here, as
// on other platforms, or none.
const directory = process.env.JCO_TEST_DIRECTORY;
_setPreopens(directory ? { "/events": directory } : {});

// jco says which port it was asked for. Asked for a free one, it says 0.
const listen = HTTPServer.prototype.listen;
HTTPServer.prototype.listen = function (port, host) {
  listen.call(this, port, host);
  const bound = this.address();
  console.error(`Bound ${bound.address}:${bound.port} pid ${process.pid}`);
};
