//! Whose rules hold where Nova surprises.

/// Whose rules hold where Nova surprises its users.
///
/// [`differences`](crate::differences) lists every place where the two differ.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Rules {
    /// What people who read the documentation expect; what is malformed refuses by name.
    #[default]
    Strict,
    /// What Nova's code does, to the last bit.
    Nova,
}
