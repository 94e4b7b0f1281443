//! Flavors: the sizes in which servers are sold, with the extra specs that constrain placement.

use indexmap::IndexMap;

use crate::domain::{ClassAmounts, FlavorName, GiB, Invalid, MiB, Resources, Vcpus};

/// A size of server.
///
/// An instance keeps the flavor it was created with, whatever happens to the flavor later.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "FlavorFields", into = "FlavorFields")]
pub struct Flavor {
    fields: FlavorFields,
    /// What the extra specs ask for; none where they are malformed.
    classes: Option<ClassAmounts>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct FlavorFields {
    name: FlavorName,
    vcpus: Vcpus,
    memory: MiB,
    root_disk: GiB,
    ephemeral_disk: GiB,
    swap: MiB,
    extra_specs: ExtraSpecs,
}

impl Flavor {
    /// The most virtual CPUs of one server.
    pub const VCPUS_MAX: Vcpus = Vcpus(4096);
    /// The most memory of one server: 64 TiB.
    pub const MEMORY_MAX: MiB = MiB(64 << 20);
    /// The largest disk of one server: 1 PiB.
    pub const DISK_MAX: GiB = GiB(1 << 20);

    /// A flavor with CPUs and memory and no local disk; the `with_` methods add the rest.
    ///
    /// # Errors
    /// [`Invalid`] for zero or more than [`VCPUS_MAX`](Self::VCPUS_MAX) CPUs, or zero or more than
    /// [`MEMORY_MAX`](Self::MEMORY_MAX) memory.
    pub fn new(name: FlavorName, vcpus: Vcpus, memory: MiB) -> Result<Self, Invalid> {
        if vcpus == Vcpus::ZERO || vcpus > Self::VCPUS_MAX {
            return Err(Invalid::new("flavor.vcpus", vcpus.0, "1 to 4096"));
        }
        if memory == MiB::ZERO || memory > Self::MEMORY_MAX {
            return Err(Invalid::new("flavor.memory", memory, "1 MiB to 64 TiB"));
        }
        let fields = FlavorFields {
            name,
            vcpus,
            memory,
            root_disk: GiB::ZERO,
            ephemeral_disk: GiB::ZERO,
            swap: MiB::ZERO,
            extra_specs: ExtraSpecs::default(),
        };
        Ok(Self { fields, classes: Some(ClassAmounts::default()) })
    }

    /// Gives the server a root disk. Zero takes the size of the image and counts as nothing.
    ///
    /// # Errors
    /// [`Invalid`] above [`DISK_MAX`](Self::DISK_MAX).
    pub fn with_root_disk(mut self, size: GiB) -> Result<Self, Invalid> {
        self.fields.root_disk = disk("flavor.root_disk", size)?;
        Ok(self)
    }

    /// The same flavor for a server whose root disk is a volume: it takes none of the host's.
    #[must_use]
    pub fn without_root_disk(mut self) -> Self {
        self.fields.root_disk = GiB::ZERO;
        self
    }

    /// Adds an empty second disk that lives as long as the server.
    ///
    /// # Errors
    /// [`Invalid`] above [`DISK_MAX`](Self::DISK_MAX).
    pub fn with_ephemeral_disk(mut self, size: GiB) -> Result<Self, Invalid> {
        self.fields.ephemeral_disk = disk("flavor.ephemeral_disk", size)?;
        Ok(self)
    }

    /// Adds a swap disk.
    ///
    /// # Errors
    /// [`Invalid`] above [`MEMORY_MAX`](Self::MEMORY_MAX).
    pub fn with_swap(mut self, size: MiB) -> Result<Self, Invalid> {
        if size > Self::MEMORY_MAX {
            return Err(Invalid::new("flavor.swap", size, "at most 64 TiB"));
        }
        self.fields.swap = size;
        Ok(self)
    }

    /// Replaces the extra specs.
    #[must_use]
    pub fn with_extra_specs(mut self, extra_specs: ExtraSpecs) -> Self {
        self.classes = ClassAmounts::from_specs(&extra_specs).ok();
        self.fields.extra_specs = extra_specs;
        self
    }

    /// The name.
    pub fn name(&self) -> &FlavorName {
        &self.fields.name
    }

    /// Virtual CPUs, at least one.
    pub fn vcpus(&self) -> Vcpus {
        self.fields.vcpus
    }

    /// Memory, at least one mebibyte.
    pub fn memory(&self) -> MiB {
        self.fields.memory
    }

    /// The root disk; zero means the size of the image.
    pub fn root_disk(&self) -> GiB {
        self.fields.root_disk
    }

    /// The second, empty disk.
    pub fn ephemeral_disk(&self) -> GiB {
        self.fields.ephemeral_disk
    }

    /// The swap disk.
    pub fn swap(&self) -> MiB {
        self.fields.swap
    }

    /// Keys and values that filters read.
    pub fn extra_specs(&self) -> &ExtraSpecs {
        &self.fields.extra_specs
    }

    /// What its extra specs ask for of resource classes beyond CPUs, memory and disk
    /// (`resources:CUSTOM_LICENCE = 2`).
    ///
    /// # Errors
    /// [`Invalid`] when a `resources:` key names no [`ResourceClass`](crate::domain::ResourceClass)
    /// or its value is no amount.
    pub fn classes(&self) -> Result<&ClassAmounts, Invalid> {
        self.classes.as_ref().ok_or_else(|| {
            let malformed = ClassAmounts::from_specs(self.extra_specs()).err();
            malformed.unwrap_or_else(|| Invalid::new("extra specs", "", "amounts of classes"))
        })
    }

    /// What a server of this flavor takes from a host. Swap counts as disk, a started gibibyte
    /// whole, as in Nova's request to placement.
    pub fn resources(&self) -> Resources {
        let f = &self.fields;
        let disk = f.root_disk.saturating_add(f.ephemeral_disk);
        Resources {
            vcpus: f.vcpus,
            memory: f.memory,
            disk: disk.saturating_add(f.swap.to_gib_ceil()),
        }
    }
}

fn disk(field: &'static str, size: GiB) -> Result<GiB, Invalid> {
    if size <= Flavor::DISK_MAX {
        Ok(size)
    } else {
        Err(Invalid::new(field, size, "at most 1 PiB"))
    }
}

impl TryFrom<FlavorFields> for Flavor {
    type Error = Invalid;

    fn try_from(f: FlavorFields) -> Result<Self, Invalid> {
        Ok(Self::new(f.name, f.vcpus, f.memory)?
            .with_root_disk(f.root_disk)?
            .with_ephemeral_disk(f.ephemeral_disk)?
            .with_swap(f.swap)?
            .with_extra_specs(f.extra_specs))
    }
}

impl From<Flavor> for FlavorFields {
    fn from(flavor: Flavor) -> Self {
        flavor.fields
    }
}

/// Keys and values on a flavor that filters read, such as
/// `aggregate_instance_extra_specs:ssd = true`. A key may have a scope, the part before the
/// first colon. They stay in the order in which they were given.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "IndexMap<String, String>", into = "IndexMap<String, String>")]
pub struct ExtraSpecs(IndexMap<String, String>);

impl ExtraSpecs {
    /// The most keys of one flavor.
    pub const KEYS_MAX: usize = 128;

    /// Checks and takes `specs`.
    ///
    /// # Errors
    /// [`Invalid`] for a key outside `A-Z a-z 0-9 . _ - : [ ]` or longer than 255, a value with
    /// control characters or longer than 255 bytes, or too many keys.
    pub fn new<K: Into<String>, V: Into<String>>(
        specs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Invalid> {
        let mut checked = IndexMap::new();
        for (key, value) in specs {
            let (key, value) = (key.into(), value.into());
            let known = |b: u8| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b);
            if key.is_empty() || key.len() > 255 || !key.bytes().all(known) {
                let allowed = "1 to 255 of A-Z, a-z, 0-9 and ._-:[]";
                return Err(Invalid::new("extra spec key", key, allowed));
            }
            if value.len() > 255 || value.chars().any(char::is_control) {
                let allowed = "at most 255 bytes without control characters";
                return Err(Invalid::new("extra spec value", value, allowed));
            }
            checked.insert(key, value);
        }
        if checked.len() > Self::KEYS_MAX {
            return Err(Invalid::new("extra specs", checked.len(), "at most 128 keys"));
        }
        Ok(Self(checked))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All of them, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<IndexMap<String, String>> for ExtraSpecs {
    type Error = Invalid;

    fn try_from(specs: IndexMap<String, String>) -> Result<Self, Invalid> {
        Self::new(specs)
    }
}

impl From<ExtraSpecs> for IndexMap<String, String> {
    fn from(specs: ExtraSpecs) -> Self {
        specs.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavor(vcpus: u32, memory: u64) -> Result<Flavor, Invalid> {
        Flavor::new(FlavorName::new("f").unwrap(), Vcpus(vcpus), MiB(memory))
    }

    #[test]
    fn a_flavor_has_at_least_one_cpu_and_some_memory() {
        assert_eq!(flavor(0, 1).map_err(|e| e.field), Err("flavor.vcpus"));
        assert_eq!(flavor(1, 0).map_err(|e| e.field), Err("flavor.memory"));
        assert!(flavor(4096, 64 << 20).is_ok());
        assert!(flavor(4097, 1).is_err());
    }

    #[test]
    fn swap_counts_as_disk_rounded_up() {
        let flavor = flavor(1, 1).and_then(|f| f.with_root_disk(GiB(10)));
        let flavor = flavor.and_then(|f| f.with_swap(MiB(1025)));
        assert_eq!(flavor.map(|f| f.resources().disk), Ok(GiB(12)));
    }

    #[test]
    fn a_stored_flavor_is_checked_when_it_is_read() {
        let text = serde_json::to_string(&flavor(1, 1).unwrap()).unwrap();
        assert!(serde_json::from_str::<Flavor>(&text).is_ok());
        let zero = text.replace("\"vcpus\":1", "\"vcpus\":0");
        assert!(serde_json::from_str::<Flavor>(&zero).is_err());
    }

    #[test]
    fn an_extra_spec_with_a_newline_is_refused() {
        assert!(ExtraSpecs::new([("a:b", "x\ny")]).is_err());
        assert!(ExtraSpecs::new([("a b", "x")]).is_err());
        assert!(ExtraSpecs::new([("scope:key", "<in> x")]).is_ok());
    }
}
