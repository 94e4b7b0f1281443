//! Who logs in to a server, and with what.

use std::fmt;

use crate::domain::Invalid;

/// The name of a user inside a server, such as `root` or `Administrator`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestUser(String);

impl GuestUser {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`] unless it is 1 to 64 characters without control characters, space and any of
    /// `:/`, and does not begin with `-`.
    pub fn new(name: impl Into<String>) -> Result<Self, Invalid> {
        let name = name.into();
        let good = |c: char| !c.is_control() && !c.is_whitespace() && !":/".contains(c);
        if (1..=64).contains(&name.chars().count())
            && name.chars().all(good)
            && !name.starts_with('-')
        {
            return Ok(Self(name));
        }
        let allowed = "1 to 64 characters, no control characters, space, ':' and '/', no '-' first";
        Err(Invalid::new("guest user", name, allowed))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GuestUser {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

impl From<GuestUser> for String {
    fn from(user: GuestUser) -> Self {
        user.0
    }
}

/// A password of a user inside a server. It is shown to nobody: neither errors nor `Debug` have it.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Password(String);

impl Password {
    /// Checks `password`.
    ///
    /// # Errors
    /// [`Invalid`], which does not repeat it, unless it is 1 to 255 bytes without control
    /// characters.
    pub fn new(password: impl Into<String>) -> Result<Self, Invalid> {
        let password = password.into();
        if (1..=255).contains(&password.len()) && !password.chars().any(char::is_control) {
            return Ok(Self(password));
        }
        let allowed = "1 to 255 bytes without control characters";
        Err(Invalid::new("password", "(not shown)", allowed))
    }

    /// The password.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(not shown)")
    }
}

impl TryFrom<String> for Password {
    type Error = Invalid;

    fn try_from(password: String) -> Result<Self, Invalid> {
        Self::new(password)
    }
}

impl From<Password> for String {
    fn from(password: Password) -> Self {
        password.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_word_that_ends_no_line_and_begins_no_option() {
        for good in ["root", "Administrator", "j\u{f6}rg", "a-b.c_d"] {
            assert!(GuestUser::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a b", "a:b", "../a", "-r", "a\n", &"a".repeat(65)] {
            assert!(GuestUser::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let said = format!("{:?}", Password::new("hunter2").unwrap());
        assert!(!said.contains("hunter2"), "{said}");
        let long = "hunter2".repeat(40);
        for bad in ["", "hunter2\n", &long] {
            let said = format!("{:?}", Password::new(bad).unwrap_err());
            assert!(!said.contains("hunter2"), "{said}");
        }
        let wrong = serde_json::from_str::<Password>("\"hunter2\\n\"").unwrap_err();
        assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
    }
}
