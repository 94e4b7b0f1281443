//! Images that must be refused, images that must be taken, and images of chance.

pub(crate) mod archives;
mod genuine;
mod hostile;
pub(crate) mod makers;
mod overlays;
mod random;

use std::io::Cursor;

use nova_virt::inspect::{Disk, Format, Refusal, inspect};

use self::makers::Made;

fn look(made: &Made, declared: Format) -> Result<Disk, Refusal> {
    inspect(&mut Cursor::new(&made.0), declared, Some(1 << 40))
}
