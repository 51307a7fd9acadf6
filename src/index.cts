/** The public API for CommonJS: `require("slimtune")`, which Node gives the same module. */
import slimtune = require("./index.js");

export = slimtune;
