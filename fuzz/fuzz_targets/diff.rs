//! libFuzzer target: `properties::diff` of whatever libFuzzer makes up.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use properties::mutate::mutate_or;

fuzz_target!(|bytes: &[u8]| properties::diff(bytes));

fuzz_mutator!(|bytes: &mut [u8], size: usize, limit: usize, seed: u32| {
    mutate_or(bytes, size, limit, seed, fuzzer_mutate)
});
