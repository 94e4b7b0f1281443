//! What POSIX's archives say of an entry beside its header: lines of a length, a key and a value.

use super::super::Refusal;

/// What was said of the next entry.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) user: Option<u64>,
    pub(super) group: Option<u64>,
    /// Seconds since 1970.
    pub(super) changed: Option<i64>,
    /// Of a file with holes whose map comes before its data: its size.
    pub(super) real_size: Option<u64>,
    pub(super) sparse: [Option<u64>; 2],
    /// Of a file with holes: its name, since that of the header is for readers that do not know.
    pub(super) real_path: Option<Vec<u8>>,
}

/// Keys that change nothing of what is unpacked, and what begins others: extended attributes and
/// access lists are not unpacked.
const NOTES: [&[u8]; 8] = [
    b"comment",
    b"atime",
    b"ctime",
    b"uname",
    b"gname",
    b"LIBARCHIVE.creationtime",
    b"SCHILY.fflags",
    b"RHT.security.selinux",
];
const NOTED: [&[u8]; 3] = [b"SCHILY.xattr.", b"SCHILY.acl.", b"LIBARCHIVE.xattr."];

/// Whether a key is one of those.
fn is_note(key: &[u8]) -> bool {
    NOTES.contains(&key) || NOTED.iter().any(|prefix| key.starts_with(prefix))
}

impl Said {
    /// Reads what is said of the next entry.
    pub(super) fn read(text: &[u8]) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for line in lines(text) {
            let (key, value) = line?;
            said.take(key, value)?;
        }
        Ok(said)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let text = || Some(value.to_vec()).filter(|text| !text.is_empty() && !text.contains(&0));
        let number = || std::str::from_utf8(value).ok().filter(|text| plain(text))?.parse().ok();
        let once = match key {
            b"path" => put(&mut self.path, text()),
            b"linkpath" => put(&mut self.link, text()),
            b"size" => put(&mut self.size, number()),
            b"uid" => put(&mut self.user, number()),
            b"gid" => put(&mut self.group, number()),
            b"mtime" => put(&mut self.changed, seconds(value)),
            b"GNU.sparse.major" => put(&mut self.sparse[0], number()),
            b"GNU.sparse.minor" => put(&mut self.sparse[1], number()),
            b"GNU.sparse.name" => put(&mut self.real_path, text()),
            b"GNU.sparse.realsize" => put(&mut self.real_size, number()),
            key if is_note(key) => Some(()),
            _ => {
                let line = String::from_utf8_lossy(key).chars().take(120).collect();
                return Err(Refusal::Line { line });
            }
        };
        once.ok_or(Refusal::Wrong("it says something of an entry twice, or what is no value"))
    }
}

/// Checks what is said of all entries that follow: nothing but notes.
pub(super) fn notes_only(text: &[u8]) -> Result<(), Refusal> {
    for line in lines(text) {
        let (key, _) = line?;
        if !is_note(key) {
            let line = String::from_utf8_lossy(key).chars().take(120).collect();
            return Err(Refusal::Line { line });
        }
    }
    Ok(())
}

fn put<T>(into: &mut Option<T>, value: Option<T>) -> Option<()> {
    let value = value?;
    into.replace(value).is_none().then_some(())
}

fn plain(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The whole seconds of a time such as `1700000000.25`.
fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if plain(digits) && plain(part) { whole.parse().ok() } else { None }
}

/// The keys and values. A line's length counts itself, and its end.
fn lines(mut text: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Refusal>> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let line = cut(&mut text);
        if line.is_none() {
            text = &[];
        }
        Some(line.ok_or(Refusal::Wrong("what it says of an entry does not read")))
    })
}

fn cut<'a>(text: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let space = text.iter().take(8).position(|byte| *byte == b' ')?;
    let length = std::str::from_utf8(&text[..space]).ok().filter(|digits| plain(digits))?;
    let (line, rest) = text.split_at_checked(length.parse().ok()?)?;
    *text = rest;
    let line = line.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..]))
}
