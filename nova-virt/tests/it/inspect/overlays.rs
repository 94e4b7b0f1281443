//! Images that lie over another file, which somebody else names.

use std::io::Cursor;

use nova_virt::inspect::{Disk, Refusal, inspect_overlay};

use super::makers::{MIB, Made, qcow2, raw};

fn look(made: &Made) -> Result<Disk, Refusal> {
    inspect_overlay(&mut Cursor::new(&made.0), Some(MIB))
}

#[test]
fn an_overlay_may_name_what_lies_below_and_nothing_else() {
    for version in [2, 3] {
        let over = qcow2(version).be64(8, 1024).be32(16, 11).with(1024, b"/etc/shadow");
        assert_eq!(look(&over).unwrap().virtual_size, MIB);
        assert_eq!(look(&qcow2(version)).unwrap().virtual_size, MIB);
        let long = over.be32(16, 1024);
        assert!(matches!(look(&long), Err(Refusal::Wrong(_))), "{version}");
    }
    let named = qcow2(3).be32(104, 0xe279_2aca).be32(108, 3).with(112, b"raw");
    assert!(look(&named).is_ok());
    for elsewhere in [
        qcow2(3).be64(72, 4),
        qcow2(3).be64(88, 2),
        qcow2(3).be32(104, 0x4441_5441).be32(108, 11).with(112, b"/etc/shadow"),
    ] {
        assert!(matches!(look(&elsewhere), Err(Refusal::OtherFile(_))));
    }
    assert!(matches!(look(&raw()), Err(Refusal::Disguised { .. })));
    assert!(matches!(look(&qcow2(3).be64(24, MIB + 1)), Err(Refusal::TooLarge { .. })));
}
