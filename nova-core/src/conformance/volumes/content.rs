//! What volumes hold, as far as this machine reaches them.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use crate::domain::{GiB, VolumeId};
use crate::port::{Connection, VolumeDriver};

use super::{HERE, NOW, done};

/// As much is written and read at a time: a block of any device.
const BLOCK: usize = 4096;

/// Somewhere in the middle of a volume's first gibibyte.
pub(super) const MIDDLE: u64 = 300 << 20;

/// The last block of a volume of so many gibibytes.
pub(super) const fn end_of(gib: u64) -> u64 {
    GiB(gib).to_bytes() - BLOCK as u64
}

/// Connects a volume, writes a block of `byte` at each place, and takes it back.
pub(super) async fn fill(driver: &impl VolumeDriver, volume: VolumeId, at: &[u64], byte: u8) {
    let connection = done(driver.connect(volume, HERE, NOW).await);
    write(&connection, at, byte);
    done(driver.disconnect(volume, HERE, NOW).await);
}

/// Connects a volume, looks for a block of `byte` at each place, and takes it back.
pub(super) async fn holds(driver: &impl VolumeDriver, volume: VolumeId, at: &[u64], byte: u8) {
    let connection = done(driver.connect(volume, HERE, NOW).await);
    for place in at {
        assert_holds(&connection, *place, byte);
    }
    done(driver.disconnect(volume, HERE, NOW).await);
}

/// Writes a block of `byte` at each place, to stay there.
pub(super) fn write(connection: &Connection, at: &[u64], byte: u8) {
    let Some(path) = path_of(connection) else { return };
    let write = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        for place in at {
            file.seek(SeekFrom::Start(*place))?;
            file.write_all(&[byte; BLOCK])?;
        }
        file.sync_all()
    };
    write().unwrap_or_else(|error| panic!("cannot write to {path}: {error}"));
}

/// There is a block of `byte` at this place.
pub(super) fn assert_holds(connection: &Connection, place: u64, byte: u8) {
    let Some(path) = path_of(connection) else { return };
    let read = || {
        let mut file = OpenOptions::new().read(true).open(path)?;
        let mut block = [!byte; BLOCK];
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(&mut block)?;
        Ok::<_, std::io::Error>(block)
    };
    let found = read().unwrap_or_else(|error| panic!("cannot read {path} at {place}: {error}"));
    let strange = found.iter().position(|found| *found != byte);
    assert_eq!(strange, None, "{path} at {place}: not a block of {byte}");
}

/// None where a volume is only counted.
fn path_of(connection: &Connection) -> Option<&str> {
    match connection {
        Connection::File { path } | Connection::Block { path } => Some(path),
        Connection::Simulated => None,
    }
}
