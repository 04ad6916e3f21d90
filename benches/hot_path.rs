//! Criterion benchmarks of the pure hot parts.

fn main() {}
