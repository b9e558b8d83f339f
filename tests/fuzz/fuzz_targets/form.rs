//! Query strings, url-encoded and multipart forms as clients send them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unfulfilled_lint_expectations, reason = "the server uses the rest")]
#[path = "../../../crates/server/src/http/pairs.rs"]
mod pairs;

fuzz_target!(|bytes: &[u8]| pairs::fuzz_form(bytes));
