//! What operators see: metrics and logs. Secrets, prompts and query strings are in neither.

pub mod logs;
pub mod metrics;
