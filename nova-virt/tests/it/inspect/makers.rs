//! The smallest images of each format that are whole, made by hand.

/// An image that is being made.
#[derive(Clone)]
pub(crate) struct Made(pub(crate) Vec<u8>);

impl Made {
    fn of(len: usize) -> Self {
        Self(vec![0; len])
    }

    /// The same with these bytes at an offset; it grows when it has to.
    #[must_use]
    pub(crate) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    #[must_use]
    pub(crate) fn be32(self, at: usize, number: u32) -> Self {
        self.with(at, &number.to_be_bytes())
    }

    #[must_use]
    pub(crate) fn be64(self, at: usize, number: u64) -> Self {
        self.with(at, &number.to_be_bytes())
    }

    #[must_use]
    pub(crate) fn le16(self, at: usize, number: u16) -> Self {
        self.with(at, &number.to_le_bytes())
    }

    #[must_use]
    pub(crate) fn le32(self, at: usize, number: u32) -> Self {
        self.with(at, &number.to_le_bytes())
    }

    #[must_use]
    pub(crate) fn le64(self, at: usize, number: u64) -> Self {
        self.with(at, &number.to_le_bytes())
    }

    /// Cut after so many bytes.
    #[must_use]
    pub(crate) fn cut(mut self, len: usize) -> Self {
        self.0.truncate(len);
        self
    }

    /// With other bytes behind it.
    #[must_use]
    pub(crate) fn and(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

pub(crate) const MIB: u64 = 1 << 20;

/// A disk of bytes, such as a boot sector begins.
pub(crate) fn raw() -> Made {
    Made::of(MIB as usize).with(0, &[0xeb, 0x63, 0x90]).with(510, &[0x55, 0xaa])
}

/// Version 2 or 3, clusters of 64 KiB, a disk of 1 MiB.
pub(crate) fn qcow2(version: u32) -> Made {
    let made = Made::of(4 << 16)
        .with(0, b"QFI\xfb")
        .be32(4, version)
        .be32(20, 16)
        .be64(24, MIB)
        .be32(36, 1)
        .be64(40, 3 << 16)
        .be64(48, 1 << 16)
        .be32(56, 1)
        .be64(1 << 16, 2 << 16);
    if version == 2 { made } else { made.be32(96, 4).be32(100, 104) }
}

/// The descriptor of a sparse disk of 2048 sectors.
pub(crate) fn descriptor(kind: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=7a8e2b1c\nparentCID=ffffffff\n\
         createType=\"{kind}\"\n\n# Extent description\nRW 2048 SPARSE \"disk.vmdk\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n\
         ddb.geometry.cylinders = \"2\"\nddb.adapterType = \"ide\"\n"
    )
}

/// A sparse disk of 1 MiB with this descriptor.
pub(crate) fn vmdk(descriptor: &str) -> Made {
    Made::of(64 << 10)
        .with(0, b"KDMV")
        .le32(4, 1)
        .le32(8, 3)
        .le64(12, 2048)
        .le64(20, 128)
        .le64(28, 1)
        .le64(36, 20)
        .le32(44, 512)
        .le64(48, 21)
        .le64(56, 26)
        .le64(64, 128)
        .with(73, b"\n \r\n")
        .with(512, descriptor.as_bytes())
}

/// One that is compressed for a stream, and knows where its directory is at its end.
pub(crate) fn stream() -> Made {
    let head = vmdk(&descriptor("streamOptimized")).le32(4, 3).le32(8, 0x3_0001).le16(77, 1);
    let footer = head.clone().cut(512);
    let head = head.le64(56, u64::MAX);
    let marker = Made::of(512).le64(0, 1).le32(12, 3);
    head.and(&marker.0).and(&footer.0).and(&[0; 512])
}

/// The footer of a disk of 1 MiB.
pub(crate) fn vhd_footer(kind: u32) -> Made {
    let footer = Made::of(512)
        .with(0, b"conectix")
        .be32(8, 2)
        .be32(12, 0x1_0000)
        .be64(16, if kind == 2 { u64::MAX } else { 512 })
        .be64(40, MIB)
        .be64(48, MIB)
        .be32(60, kind);
    summed(footer, 0, 512, 64)
}

/// The same with the checksum of `len` bytes from `from` on at `at`.
pub(crate) fn summed(made: Made, from: usize, len: usize, at: usize) -> Made {
    let made = made.be32(at, 0);
    let sum: u32 = made.0[from..from + len].iter().map(|byte| u32::from(*byte)).sum();
    made.be32(at, !sum)
}

pub(crate) fn vhd_fixed() -> Made {
    raw().and(&vhd_footer(2).0)
}

pub(crate) fn vhd_dynamic() -> Made {
    let footer = vhd_footer(3).0;
    let made = Made(footer.clone())
        .with(512, b"cxsparse")
        .be64(520, u64::MAX)
        .be64(528, 1536)
        .be32(536, 0x1_0000)
        .be32(540, 1)
        .be32(544, 2 << 20)
        .with(1279, &[0]);
    let made = made.with(512 + 1023, &[0]);
    summed(made, 512, 1024, 512 + 36).with(1536, &[0xff; 512]).and(&footer)
}

/// Where the metadata of the VHDX is.
pub(crate) const METADATA: usize = 512 << 10;

pub(crate) fn guid(text: &str) -> [u8; 16] {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let byte = |at: usize| {
        let pair = std::str::from_utf8(&digits[2 * at..2 * at + 2]).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    };
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    order.map(byte)
}

pub(crate) const VHDX_ITEMS: [&str; 3] = [
    "caa16737-fa36-4d43-b3b6-33f0aa44e76b",
    "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
    "8141bf1d-a96f-4709-ba47-f233a8faab5f",
];

pub(crate) fn vhdx() -> Made {
    let mut made = Made::of(METADATA + (66 << 10)).with(0, b"vhdxfile");
    for at in [64 << 10, 128 << 10] {
        made = made.with(at, b"head").le16(at + 66, 1);
    }
    for at in [192 << 10, 256 << 10] {
        made = made.with(at, b"regi").le32(at + 8, 2);
        let regions = [
            ("2dc27766-f623-4200-9d64-115e9bfd4a08", 3 << 20),
            ("8b7ca206-4790-4b9a-b8fe-575f050f886e", METADATA as u64),
        ];
        for (index, (id, offset)) in regions.into_iter().enumerate() {
            let entry = at + 16 + 32 * index;
            made = made.with(entry, &guid(id)).le64(entry + 16, offset).le32(entry + 28, 1);
        }
    }
    made = made.with(METADATA, b"metadata").le16(METADATA + 10, 3);
    for (index, id) in VHDX_ITEMS.into_iter().enumerate() {
        let (entry, offset) = (METADATA + 32 + 32 * index, (64 << 10) + 8 * index as u32);
        made = made.with(entry, &guid(id)).le32(entry + 16, offset).le32(entry + 20, 8);
    }
    made.le32(METADATA + (64 << 10), 1 << 20).le64(METADATA + (64 << 10) + 8, MIB)
}

pub(crate) fn vdi() -> Made {
    Made::of(2 << 20)
        .with(0, b"<<< QEMU VM Virtual Disk Image >>>\n")
        .with(64, &[0x7f, 0x10, 0xda, 0xbe])
        .le32(68, 0x1_0001)
        .le32(72, 0x180)
        .le32(76, 1)
        .le32(340, 512)
        .le32(344, 1024)
        .le32(360, 512)
        .le64(368, MIB)
        .le32(376, 1 << 20)
        .le32(384, 1)
}

pub(crate) fn luks() -> Made {
    let made = Made::of(2 << 20).with(0, b"LUKS\xba\xbe").with(6, &[0, 1]);
    made.with(8, b"aes").be32(104, 2048)
}

pub(crate) fn iso() -> Made {
    Made::of(40 << 11)
        .with(0x8000, b"\x01CD001\x01")
        .le32(0x8000 + 80, 40)
        .be32(0x8000 + 84, 40)
        .le16(0x8000 + 128, 2048)
        .with(0x8000 + 130, &2048_u16.to_be_bytes())
}
