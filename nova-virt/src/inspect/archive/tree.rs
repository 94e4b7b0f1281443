//! The paths that an archive has named so far, and whether the next one may follow.

use std::collections::BTreeMap;

use super::super::Refusal;
use super::ENTRIES_MAX;

/// The longest path, name, and way down, and how many bytes of paths are kept.
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;
const DEPTH_MAX: usize = 128;
const PATHS_BYTES_MAX: usize = 256 << 20;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File,
    /// Nothing is reached through it.
    Symlink,
}

/// Every path that was named, with the directories on the way: each is in a directory that is
/// here too, but for those at the top.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Box<[u8]>, Node>,
    bytes: usize,
}

impl Tree {
    /// One more.
    pub(super) fn add(&mut self, path: &[u8], node: Node) -> Result<(), Refusal> {
        if path.is_empty() {
            return match node {
                Node::Directory => Ok(()),
                _ => Err(entry(path, "stands in place of the root")),
            };
        }
        self.add_parents(path)?;
        match (self.nodes.get(path), node) {
            (None, _) => self.put(path, node),
            (Some(Node::Directory), Node::Directory) => Ok(()),
            (Some(_), _) => Err(entry(path, "comes twice")),
        }
    }

    /// A file that has another name.
    pub(super) fn file(&self, path: &[u8], link: &[u8]) -> Result<(), Refusal> {
        match self.nodes.get(link) {
            Some(Node::File) => Ok(()),
            _ => Err(entry(path, "is another name of something that is no file of the archive")),
        }
    }

    fn add_parents(&mut self, path: &[u8]) -> Result<(), Refusal> {
        let mut missing = Vec::new();
        let mut way = path;
        while let Some(parent) = parent(way) {
            match self.nodes.get(parent) {
                Some(Node::Directory) => break,
                Some(_) => return Err(entry(path, "goes through what is no directory")),
                None => missing.push(parent),
            }
            way = parent;
        }
        missing.into_iter().rev().try_for_each(|parent| self.put(parent, Node::Directory))
    }

    fn put(&mut self, path: &[u8], node: Node) -> Result<(), Refusal> {
        self.bytes += path.len();
        if self.nodes.len() >= ENTRIES_MAX {
            return Err(Refusal::TooMany { what: "entries", most: ENTRIES_MAX as u64 });
        }
        if self.bytes > PATHS_BYTES_MAX {
            let most = PATHS_BYTES_MAX as u64;
            return Err(Refusal::TooMany { what: "bytes of paths", most });
        }
        self.nodes.insert(path.into(), node);
        Ok(())
    }
}

/// The directory that a path is in; none at the top.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at])
}

/// Why an entry is refused.
pub(super) fn entry(path: &[u8], why: &'static str) -> Refusal {
    Refusal::Entry { path: String::from_utf8_lossy(path).chars().take(120).collect(), why }
}

/// A path without what says nothing: `./`, a second `/`, one at the end. Empty is the root.
pub(super) fn inside(path: &[u8]) -> Result<Vec<u8>, Refusal> {
    if path.is_empty() || path.contains(&0) {
        return Err(entry(path, "has no name"));
    }
    if path.len() > PATH_MAX {
        return Err(entry(path, "has a path that is too long"));
    }
    if path.starts_with(b"/") {
        return Err(entry(path, "leads out of the archive"));
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let names: Vec<&[u8]> = names.collect();
    if names.contains(&&b".."[..]) {
        return Err(entry(path, "leads out of the archive"));
    }
    if names.len() > DEPTH_MAX || names.iter().any(|name| name.len() > NAME_MAX) {
        return Err(entry(path, "has a path that is too long"));
    }
    Ok(names.join(&b'/'))
}

/// Checks what a symbolic link at `path` says: it does not climb above the root, as text.
pub(super) fn stays(path: &[u8], link: &[u8]) -> Result<(), Refusal> {
    if link.is_empty() || link.contains(&0) || link.len() > PATH_MAX {
        return Err(entry(path, "is a link to nothing"));
    }
    let mut depth = match link.starts_with(b"/") {
        true => 0,
        false => path.iter().filter(|byte| **byte == b'/').count(),
    };
    for name in link.split(|byte| *byte == b'/') {
        depth = match name {
            b"" | b"." => depth,
            b".." => depth.checked_sub(1).ok_or(entry(path, "leads out of the archive"))?,
            _ => depth + 1,
        };
    }
    Ok(())
}
