//! Any trace in any format, compressed or not.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nova_core::domain::{Flavor, GiB, Invalid, MiB, Resources, Vcpus};

use super::decode::{Head, decoded};
use super::sort::SortOptions;
use super::tar::is_tar;
use super::{
    JsonReader, Rows, TraceError, TraceReader, alibaba, azure, decisions, google, huawei, lines,
    packing, plain, planetlab, tables,
};

use crate::explain::log::LOG_BEGINS;
use crate::sim::range::within;

/// What a trace is written in; [the module](super) says what each keeps and loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The plain form.
    Plain,
    /// The JSON form.
    Json,
    /// Azure's vmtable of 2017 or 2019.
    Azure,
    /// The table `vm` of Azure's trace for packing, 2020.
    AzurePacking,
    /// Huawei-East-1.
    Huawei,
    /// Alibaba 2017, container_event.
    Alibaba2017,
    /// Alibaba 2018, container_meta.
    Alibaba2018,
    /// Alibaba 2018, batch_task.
    Alibaba2018Batch,
    /// Alibaba's GPU cluster of 2023, a list of pods.
    Alibaba2023,
    /// Google 2011, task_events.
    Google2011,
    /// Google 2019, instance_events.
    Google2019,
    /// PlanetLab's series of utilisation.
    PlanetLab,
    /// A log of decisions, see [`decisions`](super::decisions).
    Decisions,
    /// OpenDC's tables of tasks and fragments, in Parquet.
    OpenDc,
    /// The plain form as a table in Parquet.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 15] = [
        Self::Plain,
        Self::Json,
        Self::Azure,
        Self::AzurePacking,
        Self::Huawei,
        Self::Alibaba2017,
        Self::Alibaba2018,
        Self::Alibaba2018Batch,
        Self::Alibaba2023,
        Self::Google2011,
        Self::Google2019,
        Self::PlanetLab,
        Self::Decisions,
        Self::OpenDc,
        Self::Parquet,
    ];

    /// Its name, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Azure => "azure",
            Self::AzurePacking => "azure-packing",
            Self::Huawei => "huawei",
            Self::Alibaba2017 => "alibaba-2017",
            Self::Alibaba2018 => "alibaba-2018",
            Self::Alibaba2018Batch => "alibaba-2018-batch",
            Self::Alibaba2023 => "alibaba-2023",
            Self::Google2011 => "google-2011",
            Self::Google2019 => "google-2019",
            Self::PlanetLab => "planetlab",
            Self::Decisions => "decisions",
            Self::OpenDc => "opendc",
            Self::Parquet => "parquet",
        }
    }

    /// The format of a trace with this first line: its header, or a row where it has none. Tables
    /// in Parquet have no lines.
    pub fn recognise(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii();
        let has = |name: &[u8]| line.windows(name.len()).any(|part| part == name);
        let percent = || lines::digits(line).is_some_and(|percent| percent <= 100);
        let known: [(Self, &dyn Fn() -> bool); 13] = [
            (Self::Decisions, &|| line.starts_with(LOG_BEGINS)),
            (Self::Plain, &|| plain::is_header(line)),
            (Self::Huawei, &|| huawei::is_header(line)),
            (Self::AzurePacking, &|| packing::is_header(line)),
            (Self::Alibaba2023, &|| alibaba::is_pods_header(line)),
            (Self::Google2019, &|| google::is_instance_2019(line)),
            (Self::Json, &|| line.starts_with(b"{") && has(b"\"arrival_s\"")),
            (Self::Azure, &|| azure::is_header(line) || azure::is_row(line)),
            (Self::Alibaba2017, &|| alibaba::is_event_2017(line)),
            (Self::Alibaba2018, &|| alibaba::is_container_2018(line)),
            (Self::Alibaba2018Batch, &|| alibaba::is_task_2018(line)),
            (Self::Google2011, &|| google::is_task_2011(line)),
            (Self::PlanetLab, &percent),
        ];
        known.into_iter().find(|(_, is)| is()).map(|(format, _)| format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        let allowed = "plain, json, azure, azure-packing, huawei, alibaba-2017, alibaba-2018, \
                       alibaba-2018-batch, alibaba-2023, google-2011, google-2019, planetlab, \
                       decisions, opendc or parquet";
        let format = Self::ALL.into_iter().find(|format| format.name() == name);
        format.ok_or_else(|| Invalid::new("format", name, allowed))
    }
}

/// What an amount of memory is told in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
// Exhaustive on purpose: traces have no others.
pub enum MemoryUnit {
    /// 1024 bytes.
    KiB,
    /// 1024 KiB.
    #[default]
    MiB,
}

/// What a trace does not tell and somebody has to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The machine that sizes are shares of (packing, Google, Alibaba 2017 and 2018).
    pub machine: Resources,
    /// What a VM has whose trace does not say (PlanetLab).
    pub shape: Resources,
    /// The vCPUs of VMs above the largest bucket, `>24` (Azure 2019).
    pub over_vcpus: Vcpus,
    /// The memory of VMs above the largest bucket, `>64` GB (Azure 2019).
    pub over_memory: MiB,
    /// The file with the table `vmType`, which the packing trace needs.
    pub vm_types: Option<PathBuf>,
    /// The kind of machine that VM types are taken for, by its `machineId`; none is for each type
    /// the lowest that can hold it (packing).
    pub machine_id: Option<u64>,
    /// What memory is told in (OpenDC).
    pub memory_unit: MemoryUnit,
    /// How rows are put in order.
    pub sort: SortOptions,
}

impl Default for ReadOptions {
    /// Machines of 64 vCPUs, 256 GiB and 4 TiB; VMs of one vCPU and 1 GiB; 30 vCPUs and 70 GiB
    /// above the buckets, as published analyses of that trace have it.
    fn default() -> Self {
        Self {
            machine: Resources { vcpus: Vcpus(64), memory: MiB(256 << 10), disk: GiB(4 << 10) },
            shape: Resources { vcpus: Vcpus(1), memory: MiB(1 << 10), disk: GiB(0) },
            over_vcpus: Vcpus(30),
            over_memory: MiB(70 << 10),
            vm_types: None,
            machine_id: None,
            memory_unit: MemoryUnit::default(),
            sort: SortOptions::default(),
        }
    }
}

impl ReadOptions {
    /// With machines of this size.
    #[must_use]
    pub fn with_machine(mut self, machine: Resources) -> Self {
        self.machine = machine;
        self
    }

    /// With VMs of this shape.
    #[must_use]
    pub fn with_shape(mut self, shape: Resources) -> Self {
        self.shape = shape;
        self
    }

    /// With this above the largest buckets.
    #[must_use]
    pub fn with_over(mut self, vcpus: Vcpus, memory: MiB) -> Self {
        (self.over_vcpus, self.over_memory) = (vcpus, memory);
        self
    }

    /// With the table of VM types in this file.
    #[must_use]
    pub fn with_vm_types(mut self, file: PathBuf) -> Self {
        self.vm_types = Some(file);
        self
    }

    /// With VM types as they are on this kind of machine.
    #[must_use]
    pub fn with_machine_id(mut self, machine: u64) -> Self {
        self.machine_id = Some(machine);
        self
    }

    /// With memory told in this unit.
    #[must_use]
    pub fn with_memory_unit(mut self, unit: MemoryUnit) -> Self {
        self.memory_unit = unit;
        self
    }

    /// With rows put in order like this.
    #[must_use]
    pub fn with_sort(mut self, sort: SortOptions) -> Self {
        self.sort = sort;
        self
    }

    /// Whether every option is in its range: what a VM may have is what a flavor may.
    ///
    /// # Errors
    /// [`Invalid`] names the first that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        let vcpus = |field, vcpus| within(field, vcpus, Vcpus(1)..=Flavor::VCPUS_MAX, lines::VCPUS);
        let memory =
            |field, memory| within(field, memory, MiB(1)..=Flavor::MEMORY_MAX, lines::MEMORY);
        let disk = |field, disk| within(field, disk, GiB(0)..=Flavor::DISK_MAX, lines::DISK);
        vcpus("machine.vcpus", self.machine.vcpus)?;
        memory("machine.memory", self.machine.memory)?;
        disk("machine.disk", self.machine.disk)?;
        vcpus("shape.vcpus", self.shape.vcpus)?;
        memory("shape.memory", self.shape.memory)?;
        disk("shape.disk", self.shape.disk)?;
        vcpus("over_vcpus", self.over_vcpus)?;
        memory("over_memory", self.over_memory)
    }
}

/// Opens a file, or a folder of PlanetLab's or OpenDC's. Without a format it is recognised by the
/// first line, by the columns of a table, or by the names of files.
///
/// # Errors
/// [`TraceError`] when it cannot be opened, its format is not recognised or its header is not that
/// of the format, or an option is bad or missing.
pub fn open(
    path: &Path,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<Rows, TraceError> {
    if path.is_dir() {
        options.check()?;
        match format {
            Some(Format::OpenDc) => return tables::folder(path, options),
            None if tables::is_opendc(path) => return tables::folder(path, options),
            None | Some(Format::PlanetLab) => {
                return Ok(planetlab::rows(planetlab::series(path)?, options.shape));
            }
            _ => {}
        }
    }
    let mut file = File::open(path).map_err(TraceError::Read)?;
    if tables::may_be(format) && tables::begins(&mut file).map_err(TraceError::Read)? {
        options.check()?;
        return tables::rows(file, format, options);
    }
    read(file, format, options)
}

/// Reads a trace from any bytes. Without a format it is recognised by the first line, or by the
/// columns of a table. A table is copied to a temporary file first, since it is not read from its
/// beginning to its end.
///
/// # Errors
/// As of [`open`].
pub fn read(
    reader: impl Read + Send + 'static,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<Rows, TraceError> {
    options.check()?;
    let head = decoded(Box::new(reader)).map_err(TraceError::Read)?;
    if tables::may_be(format) && head.bytes.starts_with(&tables::MAGIC) {
        let file = tables::copied(head.reader(), &options.sort).map_err(TraceError::Read)?;
        return tables::rows(file, format, options);
    }
    let format = match format.or_else(|| recognised(&head)) {
        Some(format) => format,
        None => return Err(TraceError::Unrecognised { found: lines::shown(head.line()) }),
    };
    Ok(match format {
        Format::Plain => Box::new(TraceReader::new(head.reader())?),
        Format::Json => Box::new(JsonReader::new(head.reader())),
        Format::Azure => azure::rows(head.reader(), options),
        Format::AzurePacking => {
            let Some(types) = &options.vm_types else {
                let allowed = "the CSV of the table vmType";
                return Err(Invalid::new("vm_types", "nothing", allowed).into());
            };
            let types = File::open(types).and_then(|file| decoded(Box::new(file)));
            let types =
                types.map_err(|error| TraceError::VmTypes(Box::new(TraceError::Read(error))));
            packing::rows(head.reader(), types?.reader(), options)?
        }
        Format::Huawei => huawei::rows(head.reader(), options)?,
        Format::Alibaba2017 => alibaba::events_2017(head.reader(), options),
        Format::Alibaba2018 => alibaba::containers_2018(head.reader(), options),
        Format::Alibaba2018Batch => alibaba::tasks_2018(head.reader(), options),
        Format::Alibaba2023 => alibaba::pods_2023(head.reader(), options)?,
        Format::Google2011 => google::tasks_2011(head.reader(), options),
        Format::Google2019 => google::instances_2019(head.reader(), options),
        Format::Decisions => decisions::recorded(head.reader())?.rows(),
        Format::OpenDc | Format::Parquet => return Err(TraceError::Read(tables::no_table())),
        Format::PlanetLab => {
            planetlab::rows(planetlab::series_of("the series".to_owned(), head), options.shape)
        }
    })
}

/// The format of a file by its first line; none of a folder.
pub(crate) fn format_of(path: &Path) -> Result<Option<Format>, TraceError> {
    if path.is_dir() {
        return Ok(None);
    }
    let head = File::open(path).and_then(|file| decoded(Box::new(file)));
    Ok(recognised(&head.map_err(TraceError::Read)?))
}

fn recognised(head: &Head) -> Option<Format> {
    if is_tar(&head.bytes) {
        return Some(Format::PlanetLab);
    }
    Format::recognise(head.line())
}
