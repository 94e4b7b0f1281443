//! The tools of LVM: what they are asked, and what they answer.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use nova_core::domain::{GiB, VolumeSize};
use nova_core::port::Connection;

use super::pool::{LvmPool, name_of, part_of};
use crate::inspect::Format;
use crate::volumes::ledger::{Copied, Part, Parts, Writers};
use crate::volumes::{copies, filling};

/// What a pool is marked with when there is a directory that describes its volumes.
const MARK: &str = "nova.described";

/// The volumes of one pool.
#[derive(Debug)]
pub(super) struct Lvm {
    pool: LvmPool,
    /// The size of the pool in GiB when it was last looked at. Pools do not shrink.
    size: AtomicU64,
}

/// As many volumes are removed with one command.
const REMOVED_AT_ONCE_MAX: usize = 100;

/// A tool said that it failed.
#[derive(Debug, thiserror::Error)]
#[error("lvm {verb}: {said}")]
struct ToolFailed {
    verb: String,
    said: String,
}

/// What is to be known of a pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PoolFacts {
    /// What LVM tells it by, whatever it is called.
    pub(super) id: String,
    /// Whether it has a directory.
    pub(super) is_taken: bool,
    size: GiB,
}

/// A line of a report.
#[derive(Debug, PartialEq, Eq, serde::Deserialize)]
struct Row {
    lv_name: String,
    lv_uuid: String,
    /// In bytes.
    lv_size: String,
    lv_layout: String,
    lv_tags: String,
    pool_lv: String,
    zero: String,
}

/// The columns of a [`Row`].
const COLUMNS: &str = "lv_name,lv_uuid,lv_size,lv_layout,lv_tags,pool_lv,zero";

impl Lvm {
    pub(super) fn new(pool: LvmPool) -> Self {
        Self { pool, size: AtomicU64::new(0) }
    }

    /// Looks at the pool, which has to be one that can be used.
    pub(super) fn pool(&self) -> io::Result<PoolFacts> {
        let rows = self.rows_called(self.pool.pool())?;
        let facts = pool_of(rows.first())?;
        self.size.store(facts.size.0, Ordering::Relaxed);
        Ok(facts)
    }

    /// Marks the pool as described.
    pub(super) fn take(&self) -> io::Result<()> {
        self.run("lvchange", &["--addtag", MARK, &self.pool.path_of(self.pool.pool())])
    }

    fn row(&self, part: Part) -> io::Result<Option<Row>> {
        Ok(self.rows_called(&name_of(part))?.pop())
    }

    fn rows_called(&self, name: &str) -> io::Result<Vec<Row>> {
        self.rows(&["--select", &called(name)])
    }

    fn rows(&self, arguments: &[&str]) -> io::Result<Vec<Row>> {
        let fixed = ["--reportformat", "json", "--units", "b", "--nosuffix", "--options", COLUMNS];
        let arguments = [&fixed, arguments, &[self.pool.group()]].concat();
        parse(&self.answer("lvs", &arguments)?)
    }

    /// Makes what is called as `part` is, in place of a leftover that may be in the way.
    fn create(&self, part: Part, arguments: &[&str]) -> io::Result<()> {
        match self.run("lvcreate", arguments) {
            Err(_) if self.row(part)?.is_some() => {
                self.remove(&[part])?;
                self.run("lvcreate", arguments)
            }
            created => created,
        }
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> io::Result<()> {
        self.answer(verb, arguments).map(drop)
    }

    fn answer(&self, verb: &str, arguments: &[&str]) -> io::Result<Vec<u8>> {
        let output = Command::new("lvm")
            .arg(verb)
            .args(arguments)
            .env("LC_ALL", "C")
            // It would otherwise complain about files of ours that it closes.
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(io::Error::other(ToolFailed { verb: verb.to_owned(), said }))
    }
}

/// Chooses what has this name.
fn called(name: &str) -> String {
    format!("lv_name={name}")
}

/// Reads a report.
fn parse(report: &[u8]) -> io::Result<Vec<Row>> {
    #[derive(serde::Deserialize)]
    struct Report {
        report: Vec<Section>,
    }
    #[derive(serde::Deserialize)]
    struct Section {
        lv: Vec<Row>,
    }
    let report: Report = serde_json::from_slice(report)?;
    Ok(report.report.into_iter().flat_map(|section| section.lv).collect())
}

/// What a row says of a pool, where it is one that gives out blocks of zeros.
fn pool_of(row: Option<&Row>) -> io::Result<PoolFacts> {
    let row = row.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is none"))?;
    let layout: Vec<_> = row.lv_layout.split(',').collect();
    if !(layout.contains(&"thin") && layout.contains(&"pool")) {
        let why = format!("it is no thin pool, but {}", row.lv_layout);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if row.zero != "zero" {
        let why = "it does not fill new blocks with zeros (lvchange --zero y)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(PoolFacts {
        id: row.lv_uuid.clone(),
        is_taken: row.lv_tags.split(',').any(|tag| tag == MARK),
        size: GiB(bytes(&row.lv_size)? >> 30),
    })
}

fn bytes(text: &str) -> io::Result<u64> {
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, format!("a size of {text:?}"));
    text.parse().map_err(wrong)
}

impl std::fmt::Display for Lvm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "volumes of {}", self.pool)
    }
}

// What is made is not activated: a device appears where a host is to have it, and not before.
impl Parts for Lvm {
    fn make(&self, part: Part, size: VolumeSize) -> io::Result<()> {
        let (name, size) = (name_of(part), format!("{}b", size.get().to_bytes()));
        let pool = self.pool.path_of(self.pool.pool());
        let what = ["--type", "thin", "--virtualsize", &size, "--name", &name];
        let how = ["--yes", "--setactivationskip", "n", "--activate", "n", "--thinpool", &pool];
        self.create(part, &[&what[..], &how[..]].concat())
    }

    fn grow(&self, part: Part, size: VolumeSize) -> io::Result<()> {
        let row = self.row(part)?;
        let row = row.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let size = size.get().to_bytes();
        if bytes(&row.lv_size)? >= size {
            return Ok(());
        }
        self.run("lvextend", &["--size", &format!("{size}b"), &self.pool.path_of(&row.lv_name)])
    }

    fn copy(&self, from: Part, to: Part, _: VolumeSize, _: Writers) -> io::Result<Copied> {
        // Nobody writes to a snapshot; what is made of one can be written to again.
        let permission = if to.snapshot.is_some() { "r" } else { "rw" };
        let (from, name) = (self.pool.path_of(&name_of(from)), name_of(to));
        let what = ["--snapshot", "--name", &name, "--permission", permission];
        let how = ["--yes", "--setactivationskip", "n", "--activate", "n", &from];
        self.create(to, &[&what[..], &how[..]].concat())?;
        Ok(Copied::Whole)
    }

    fn fill(&self, part: Part, size: VolumeSize, disk: &Path, format: Format) -> io::Result<()> {
        self.make(part, size)?;
        // What is not written reads as zeros: the pool fills new blocks with them.
        let Connection::Block { path } = self.open(part, size)? else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let written = match format {
            Format::Raw => {
                let from = std::fs::File::open(disk)?;
                let to = std::fs::OpenOptions::new().write(true).open(&path)?;
                copies::copy_written(&from, &to, from.metadata()?.len())
                    .and_then(|()| to.sync_all())
            }
            format => filling::convert(disk, format, Path::new(&path))
                .and_then(|()| std::fs::File::open(&path)?.sync_all()),
        };
        // Also what could not be written: nothing removes it while it is active.
        let closed = self.close(part);
        written.and(closed)
    }

    fn remove(&self, parts: &[Part]) -> io::Result<()> {
        parts.chunks(REMOVED_AT_ONCE_MAX).try_for_each(|parts| {
            // Chosen by name: none is no error.
            let names: Vec<_> = parts.iter().map(|part| called(&name_of(*part))).collect();
            let which = ["--select", &names.join(" || "), self.pool.group()];
            self.run("lvremove", &[&["--yes", "--force"], &which[..]].concat())
        })
    }

    fn list(&self) -> io::Result<Vec<Part>> {
        let rows = self.rows(&[])?.into_iter();
        let ours = rows.filter(|row| row.pool_lv == self.pool.pool());
        Ok(ours.filter_map(|row| part_of(&row.lv_name)).collect())
    }

    fn open(&self, part: Part, _: VolumeSize) -> io::Result<Connection> {
        let name = name_of(part);
        self.run("lvchange", &["--yes", "--activate", "y", &self.pool.path_of(&name)])?;
        let path = self.pool.device_of(&name);
        // Whoever makes the nodes may not be there.
        Path::new(&path).metadata()?;
        Ok(Connection::Block { path })
    }

    fn close(&self, part: Part) -> io::Result<()> {
        // Refused while somebody has the device open; one that was lost is no error.
        let which = ["--select", &called(&name_of(part)), self.pool.group()];
        self.run("lvchange", &[&["--yes", "--activate", "n"], &which[..]].concat())
    }

    fn room(&self, wanted: GiB) -> io::Result<Option<GiB>> {
        let known = GiB(self.size.load(Ordering::Relaxed));
        if wanted <= known { Ok(Some(known)) } else { Ok(Some(self.pool()?.size)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `lvs` writes it.
    const REPORT: &str = r#"
  {
      "report": [
          {
              "lv": [
                  {"lv_name":"nova.a", "lv_uuid":"u1", "lv_size":"1073741824",
                   "lv_layout":"thin,sparse", "lv_tags":"", "pool_lv":"pool", "zero":"zero"},
                  {"lv_name":"pool", "lv_uuid":"u2", "lv_size":"17179869184",
                   "lv_layout":"thin,pool", "lv_tags":"a,nova.described", "pool_lv":"",
                   "zero":"zero"}
              ]
          }
      ]
  }"#;

    #[test]
    fn a_report_is_read_and_what_is_none_is_refused() {
        let rows = parse(REPORT.as_bytes()).unwrap();
        assert_eq!(rows.iter().map(|row| &*row.lv_name).collect::<Vec<_>>(), ["nova.a", "pool"]);
        assert_eq!(bytes(&rows[0].lv_size).unwrap(), 1 << 30);
        for wrong in ["", "{}", r#"{"report":[{"lv":[{"lv_name":"a"}]}]}"#, "Volume group \"x\""] {
            parse(wrong.as_bytes()).unwrap_err();
        }
        for wrong in ["", "1.00g", "-1"] {
            bytes(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_pool_is_thin_and_gives_out_zeros() {
        let mut rows = parse(REPORT.as_bytes()).unwrap();
        let facts = PoolFacts { id: "u2".to_owned(), is_taken: true, size: GiB(16) };
        assert_eq!(pool_of(Some(&rows[1])).unwrap(), facts);
        assert_eq!(pool_of(None).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(pool_of(Some(&rows[0])).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        rows[1].zero = String::new();
        assert_eq!(pool_of(Some(&rows[1])).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
