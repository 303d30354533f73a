//! Any answers of peers and servers. The property is in `relay_tests::fuzzing_alq`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_tests::fuzzing_alq::check_alq_requestor;

fuzz_target!(|bytes: &[u8]| check_alq_requestor(bytes));
