//! The list of a long poll as clients send it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unfulfilled_lint_expectations, reason = "the server uses the rest")]
#[path = "../../../crates/server/src/http/long_poll.rs"]
mod long_poll;
#[allow(dead_code, unfulfilled_lint_expectations, reason = "the server uses the rest")]
#[path = "../../../crates/server/src/http/pairs.rs"]
mod pairs;

fuzz_target!(|bytes: &[u8]| long_poll::fuzz_probe(bytes));
