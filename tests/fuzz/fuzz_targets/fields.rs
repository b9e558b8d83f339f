//! Bodies of gRPC requests: JSON, read as every kind of field.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unfulfilled_lint_expectations, reason = "the server uses the rest")]
#[path = "../../../crates/server/src/grpc/fields.rs"]
mod fields;

fuzz_target!(|bytes: &[u8]| fields::fuzz(bytes));
