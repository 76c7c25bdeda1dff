//! x
/// x
pub struct Cohere;
