//! What an answer says about a token ([`judge`]), and the [`Brake`] that keeps
//! a wrong key or environment from wiping a user base. No verdict is ever
//! `dead` while the brake is on.

mod brake;
mod verdict;

pub use self::brake::Brake;
pub use self::verdict::{Finding, TokenFacts, judge, undecided};
