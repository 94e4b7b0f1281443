//! Keys: paths such as `claim/<host>/<instance>`, ordered byte by byte.

/// Where a value lies in a store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// Joins `parts` with `/`. A `/`, a `%` or a control character inside a part is written as
    /// `%` and two hex digits, so that parts never run together.
    pub fn new<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Self {
        Self(join(parts).into_boxed_str())
    }

    /// A key as it was written by a store; for back ends that read keys back.
    pub fn from_stored(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

/// All keys below a path, whole parts only: `claim/a` is not above `claim/ab/x`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Everything below `parts`; everything there is when there are none.
    pub fn new<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut parts = parts.into_iter().peekable();
        if parts.peek().is_none() {
            return Self::all();
        }
        let mut path = join(parts);
        path.push('/');
        Self(path.into_boxed_str())
    }

    /// The whole store.
    pub fn all() -> Self {
        Self("".into())
    }

    /// One key alone, and whatever lies below it.
    ///
    /// It also covers keys that go on in the same part; where the last part has a fixed length,
    /// as ids have, there are none.
    pub fn of_key(key: &Key) -> Self {
        Self(key.0.clone())
    }

    /// Whether `key` lies below.
    pub fn covers(&self, key: &Key) -> bool {
        key.0.starts_with(&*self.0)
    }

    /// The path that all covered keys begin with.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::fmt::Debug for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prefix({})", self.0)
    }
}

fn join<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> String {
    let mut path = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        if at > 0 {
            path.push('/');
        }
        for c in part.as_ref().chars() {
            if c == '/' || c == '%' || c.is_ascii_control() {
                path.push_str(&format!("%{:02x}", u32::from(c)));
            } else {
                path.push(c);
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_run_together() {
        assert_ne!(Key::new(["a/b", "c"]), Key::new(["a", "b/c"]));
        assert_ne!(Key::new(["a%2fb"]), Key::new(["a/b"]));
    }

    #[test]
    fn a_prefix_covers_whole_parts_only() {
        let prefix = Prefix::new(["claim", "a"]);
        assert!(prefix.covers(&Key::new(["claim", "a", "x"])));
        assert!(!prefix.covers(&Key::new(["claim", "ab", "x"])));
        assert!(Prefix::all().covers(&Key::new(["x"])));
        assert_eq!(Prefix::new([""; 0]), Prefix::all());
        assert!(!Prefix::new([""]).covers(&Key::new(["x"])));
        assert!(Prefix::new([""]).covers(&Key::new(["", "x"])));
    }
}
