//! The entries of an archive, one after the other, as whoever unpacks it may believe them.

use super::super::Refusal;
use super::super::bytes::Bytes;
use super::USERS;
use super::header::{BLOCK, Block, Dialect};
use super::pax::{self, Said};
use super::tree::{self, Node, Tree};

/// The most bytes that are said of one entry beside its header.
const SAID_BYTES_MAX: u64 = 1 << 20;
/// The longest path that stands in a block of its own, with the zero at its end.
const LONG_BYTES_MAX: u64 = 4096;
/// The most pieces of one file with holes.
const RUNS_MAX: usize = 1 << 16;
/// What follows the end: tar fills its last record with zeros.
const FILLING_BYTES_MAX: u64 = 1 << 20;
/// A size up to which a header needs no help.
const HEADER_SIZE_MAX: u64 = (8 << 30) - 1;

/// Something that is to be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Below the root, which is empty; names with a single `/` between.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// The permissions, and nothing else.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// When it was changed, in seconds since 1970.
    pub(crate) changed: i64,
    /// Bytes of a file, with its holes; none of anything else.
    pub(crate) size: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// With its bytes, in ascending order.
    File(Vec<Run>),
    /// With what it says.
    Symlink(Vec<u8>),
    /// Another name of a file that came before.
    Link(Vec<u8>),
}

/// Bytes of a file that are no hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where they are in the file.
    pub(crate) at: u64,
    /// Where they are in the archive.
    pub(crate) from: u64,
    pub(crate) len: u64,
}

/// How far an archive was read, and what it has named so far.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    at: u64,
    tree: Tree,
}

/// What was said of the next entry by blocks of their own.
#[derive(Default)]
struct Ahead {
    said: Option<Said>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Entries {
    /// The next one; none at the end. After a refusal there is nothing to be read.
    pub(crate) fn next(&mut self, bytes: &mut Bytes<'_>) -> Result<Option<Entry>, Refusal> {
        let mut ahead = Ahead::default();
        loop {
            let Some(block) = Block::at(bytes, self.at)? else {
                let nothing = ahead.said.is_none() && ahead.path.is_none() && ahead.link.is_none();
                ends(bytes, self.at)?;
                return match nothing {
                    true => Ok(None),
                    false => Err(Refusal::Wrong("it says something of an entry that is not there")),
                };
            };
            let data = self.at + BLOCK;
            let once = match (block.kind(), block.dialect) {
                (b'g', Dialect::Posix) => {
                    pax::notes_only(&self.text(bytes, &block, SAID_BYTES_MAX)?)?;
                    true
                }
                (b'x', Dialect::Posix) => {
                    let text = self.text(bytes, &block, SAID_BYTES_MAX)?;
                    ahead.said.replace(Said::read(&text)?).is_none()
                }
                (b'L', Dialect::Gnu) => {
                    let text = self.text(bytes, &block, LONG_BYTES_MAX)?;
                    ahead.path.replace(until_zero(text)).is_none()
                }
                (b'K', Dialect::Gnu) => {
                    let text = self.text(bytes, &block, LONG_BYTES_MAX)?;
                    ahead.link.replace(until_zero(text)).is_none()
                }
                _ => return self.entry(bytes, &block, ahead, data).map(Some),
            };
            if !once {
                return Err(Refusal::Wrong("it says something of an entry twice"));
            }
        }
    }

    /// What a block is followed by; the next one comes after it.
    fn text(
        &mut self,
        bytes: &mut Bytes<'_>,
        block: &Block,
        most: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let size = block.number(124, 12)?;
        if size > most {
            return Err(Refusal::TooMany { what: "bytes said of an entry", most });
        }
        let text = bytes.vec("archive", self.at + BLOCK, size as usize)?;
        self.at += BLOCK + size.next_multiple_of(BLOCK);
        Ok(text)
    }

    fn entry(
        &mut self,
        bytes: &mut Bytes<'_>,
        block: &Block,
        ahead: Ahead,
        mut data: u64,
    ) -> Result<Entry, Refusal> {
        let said = ahead.said.unwrap_or_default();
        let named = said.real_path.or(said.path).or(ahead.path).unwrap_or_else(|| block.path());
        let path = tree::inside(&named)?;
        let refused = |why| Err(tree::entry(&path, why));
        let packed = match (said.size, block.number(124, 12)?) {
            (None, size) => size,
            // Who believes which number decides where the next header is.
            (Some(said), size) if said != size && said <= HEADER_SIZE_MAX => {
                return refused("has two sizes");
            }
            (Some(said), _) => said,
        };
        let link = || said.link.clone().or(ahead.link.clone());
        let link = link().unwrap_or_else(|| block.text(157, 100).to_vec());
        let sparse = match said.sparse {
            [None, None] if said.real_size.is_none() => None,
            [Some(1), Some(0)] => said.real_size,
            _ => return refused("has holes as they are not written any more"),
        };
        let kind = block.kind();
        let mut size = packed;
        let kind = match (kind, block.dialect) {
            _ if sparse.is_some() && !matches!(kind, b'0' | 0) => {
                return refused("has holes and is no file");
            }
            (b'0' | b'7' | 0 | b'S', _) if named.ends_with(b"/") => {
                return refused("is a file with the name of a directory");
            }
            (b'0' | 0, Dialect::Posix) if sparse.is_some() => {
                size = sparse.unwrap_or_default();
                let (map, from) = map_before(bytes, data, packed)?;
                let left = (data + packed).saturating_sub(from);
                Kind::File(runs(&path, &map, from, left, size)?)
            }
            (b'0' | b'7' | 0, _) => Kind::File(if size == 0 {
                vec![]
            } else {
                vec![Run { at: 0, from: data, len: size }]
            }),
            (b'S', Dialect::Gnu) => {
                size = block.number(483, 12)?;
                let map = map_of(bytes, block, &mut data)?;
                Kind::File(runs(&path, &map, data, packed, size)?)
            }
            (b'1' | b'2' | b'5', _) if packed != 0 => return refused("has bytes and is no file"),
            (b'5', _) => Kind::Directory,
            (b'2', _) => {
                tree::stays(&path, &link)?;
                Kind::Symlink(link)
            }
            (b'1', _) => Kind::Link(tree::inside(&link)?),
            (b'3' | b'4', _) => return refused("is a device"),
            (b'6', _) => return refused("is a FIFO"),
            _ => return refused("is of a kind that is not taken"),
        };
        let owner = |said: Option<u64>, at| {
            let id = said.map_or_else(|| block.number(at, 8), Ok)?;
            let id = u32::try_from(id).ok().filter(|id| *id < USERS);
            id.ok_or(tree::entry(&path, "belongs to a user that a container does not have"))
        };
        let (user, group) = (owner(said.user, 108)?, owner(said.group, 116)?);
        let mode = (block.number(100, 8)? & 0o7777) as u32;
        let changed = block.number(136, 12)?;
        let changed = said.changed.unwrap_or(i64::try_from(changed).unwrap_or(i64::MAX));
        match data.checked_add(packed).filter(|end| *end <= bytes.len()) {
            Some(end) => self.at = end.next_multiple_of(BLOCK),
            None => return Err(Refusal::Short { what: "archive" }),
        }
        let node = match &kind {
            Kind::Directory => Node::Directory,
            Kind::Symlink(_) => Node::Symlink,
            Kind::File(_) => Node::File,
            Kind::Link(link) => {
                self.tree.file(&path, link)?;
                Node::File
            }
        };
        self.tree.add(&path, node)?;
        let size = if node == Node::File && !matches!(kind, Kind::Link(_)) { size } else { 0 };
        Ok(Entry { path, kind, mode, user, group, changed, size })
    }
}

/// Two blocks of zeros, and nothing but zeros behind.
fn ends(bytes: &mut Bytes<'_>, at: u64) -> Result<(), Refusal> {
    bytes.header::<512>("archive", at + BLOCK)?;
    let left = bytes.len() - at;
    if left > FILLING_BYTES_MAX {
        return Err(Refusal::TooMany { what: "bytes behind its end", most: FILLING_BYTES_MAX });
    }
    match bytes.vec("archive", at, left as usize)?.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Refusal::Wrong("it goes on behind its end")),
    }
}

fn until_zero(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

/// The pieces of a file with holes, as pairs of a place and a length.
type Map = Vec<(u64, u64)>;

const TOO_MANY: Refusal = Refusal::TooMany { what: "pieces of one file", most: RUNS_MAX as u64 };

/// That of GNU's header, and of the blocks that follow it.
fn map_of(bytes: &mut Bytes<'_>, block: &Block, data: &mut u64) -> Result<Map, Refusal> {
    let mut map = Map::new();
    pieces(&mut map, block, 386, 4)?;
    let mut more = block.field(482, 1) != [0];
    while more {
        let block = Block::without_sum(bytes, *data)?;
        let before = map.len();
        pieces(&mut map, &block, 0, 21)?;
        if map.len() == before {
            return Err(Refusal::Wrong("it has a file with holes and no map of them"));
        }
        more = block.field(504, 1) != [0];
        *data += BLOCK;
    }
    Ok(map)
}

/// Adds at most `count` pieces of a block, the first of which is at `from`.
fn pieces(map: &mut Map, block: &Block, from: usize, count: usize) -> Result<(), Refusal> {
    for piece in (from..).step_by(24).take(count) {
        if block.field(piece, 1) == [0] {
            break;
        }
        if map.len() >= RUNS_MAX {
            return Err(TOO_MANY);
        }
        map.push((block.number(piece, 12)?, block.number(piece + 12, 12)?));
    }
    Ok(())
}

/// That which comes before the data, as lines of one number each; and where the data begins.
fn map_before(bytes: &mut Bytes<'_>, data: u64, packed: u64) -> Result<(Map, u64), Refusal> {
    let wrong = || Refusal::Wrong("it has a file with holes and no map of them");
    let mut lines = Lines { bytes, at: data, end: data.saturating_add(packed), block: vec![] };
    let count = lines.number()?.ok_or_else(wrong)?;
    if count > RUNS_MAX as u64 {
        return Err(TOO_MANY);
    }
    let mut map = Map::new();
    for _ in 0..count {
        let at = lines.number()?.ok_or_else(wrong)?;
        map.push((at, lines.number()?.ok_or_else(wrong)?));
    }
    Ok((map, lines.at))
}

/// Numbers of a line each, read a block at a time.
struct Lines<'a, 'b> {
    bytes: &'a mut Bytes<'b>,
    at: u64,
    end: u64,
    block: Vec<u8>,
}

impl Lines<'_, '_> {
    /// The next one; none when there is none.
    fn number(&mut self) -> Result<Option<u64>, Refusal> {
        let mut number = None;
        loop {
            if self.block.is_empty() {
                if self.at >= self.end {
                    return Ok(None);
                }
                self.block = self.bytes.vec("archive", self.at, BLOCK as usize)?;
                self.block.reverse();
                self.at += BLOCK;
            }
            let Some(byte) = self.block.pop() else { return Ok(None) };
            match byte {
                b'\n' => return Ok(number),
                b'0'..=b'9' => {
                    let more = number.unwrap_or(0_u64).checked_mul(10);
                    let more = more.and_then(|more| more.checked_add(u64::from(byte - b'0')));
                    let Some(more) = more else { return Ok(None) };
                    number = Some(more);
                }
                _ => return Ok(None),
            }
        }
    }
}

/// The pieces of a file of `size` bytes that has `packed` of them from `from` on.
fn runs(path: &[u8], map: &Map, from: u64, packed: u64, size: u64) -> Result<Vec<Run>, Refusal> {
    let (mut runs, mut end, mut used) = (Vec::new(), 0, 0_u64);
    for (at, len) in map {
        let until = at.checked_add(*len).filter(|until| *at >= end && *until <= size);
        let after = used.checked_add(*len).filter(|used| *used <= packed);
        let (Some(until), Some(after)) = (until, after) else {
            return Err(tree::entry(path, "has a map of its holes that contradicts itself"));
        };
        if *len > 0 {
            runs.push(Run { at: *at, from: from + used, len: *len });
        }
        (end, used) = (until, after);
    }
    match used == packed {
        true => Ok(runs),
        false => Err(tree::entry(path, "has a map of its holes that contradicts itself")),
    }
}
