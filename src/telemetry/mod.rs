//! What operators see: metrics, logs and traces. Secrets, prompts and query strings are in none of them.

pub mod context;
mod export;
mod histogram;
mod lines;
pub mod logs;
pub mod metrics;
pub mod process;
pub mod spans;
