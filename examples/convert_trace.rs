//! Turns a trace of any known format into the plain or the JSON form, or makes one of chance.
//!
//! With the feature `parquet` it also reads and writes tables in Parquet files.
//!
//! ```text
//! cargo run --release --example convert_trace -- --input vmtable.csv.gz --output azure.csv
//! cargo run --release --example convert_trace -- --from poisson --rows 1000000 --output made.csv
//! cargo run --release --features parquet --example convert_trace -- --input surf_week --output surf.csv
//! ```
//!
//! The formats, what each keeps and what is lost are described at `nova_sched::sim::trace`. Nothing
//! is loaded whole. A file is written only when all of it is good; what was skipped is told on
//! standard error.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nova_core::domain::{GiB, MiB, Resources, Vcpus};
use nova_core::seed::Seed;
use nova_examples::convert::{
    Converted, Form, convert, convert_to_file, lifetimes, permille, shape,
};
use nova_examples::one_line;
use nova_sched::sim::OnBadRow;
use nova_sched::sim::trace::sort::SortOptions;
use nova_sched::sim::trace::synthetic::{Arrivals, Lifetimes, Recipe, Shape, Synthetic};
use nova_sched::sim::trace::{
    Columns, Format, MemoryUnit, ReadOptions, Rows, TraceError, open, read,
};

/// Turns a trace of any known format into the plain or the JSON form, or makes one of chance.
#[derive(Debug, Parser)]
struct Args {
    /// The format of the input (recognised by its beginning when left out), or poisson or bursty to
    /// make a trace.
    #[arg(long)]
    from: Option<From>,
    /// The trace, compressed with gz or zstd or not; a folder for planetlab or
    /// opendc; - is standard input.
    #[arg(long, default_value = "-")]
    input: PathBuf,
    /// Where to write it; - is standard output.
    #[arg(long, default_value = "-")]
    output: PathBuf,
    /// Write one JSON object a line instead of CSV.
    #[arg(long)]
    json: bool,
    /// Write a table in a Parquet file instead of CSV.
    #[cfg(feature = "parquet")]
    #[arg(long, conflicts_with = "json")]
    parquet: bool,
    /// The columns of the CSV.
    #[arg(long, value_enum, default_value_t = WhichColumns::All)]
    columns: WhichColumns,
    /// What to do with a row that makes no sense.
    #[arg(long, value_enum, default_value_t = BadRows::Refuse)]
    on_bad_row: BadRows,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    making: Making,
}

/// What a trace does not tell.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Reading")]
struct Reading {
    /// Virtual CPUs of the machine that sizes are shares of.
    #[arg(long, default_value_t = 64)]
    machine_vcpus: u32,
    /// Memory of that machine, in MiB.
    #[arg(long, default_value_t = 262_144)]
    machine_memory_mib: u64,
    /// Disk of that machine, in GiB.
    #[arg(long, default_value_t = 4096)]
    machine_disk_gib: u64,
    /// Virtual CPUs of VMs whose trace tells none (planetlab).
    #[arg(long, default_value_t = 1)]
    vm_vcpus: u32,
    /// Memory of such VMs, in MiB.
    #[arg(long, default_value_t = 1024)]
    vm_memory_mib: u64,
    /// Virtual CPUs of VMs with more than the largest bucket (azure of 2019).
    #[arg(long, default_value_t = 30)]
    over_vcpus: u32,
    /// Memory of VMs with more than the largest bucket, in MiB.
    #[arg(long, default_value_t = 71_680)]
    over_memory_mib: u64,
    /// The CSV of the table vmType (azure-packing).
    #[arg(long)]
    vm_types: Option<PathBuf>,
    /// The kind of machine to take VM types for (azure-packing).
    #[arg(long)]
    machine_id: Option<u64>,
    /// What memory is told in (opendc): the trace of Bitbrains has kib.
    #[arg(long, value_enum, default_value_t = Unit::Mib)]
    memory_unit: Unit,
    /// Memory for rows that are put in order, in MiB.
    #[arg(long, default_value_t = 128)]
    sort_memory_mib: usize,
    /// Where temporary files go.
    #[arg(long)]
    scratch: Option<PathBuf>,
}

/// What a trace is made of.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Making")]
struct Making {
    /// Where chance starts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many VMs come.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// VMs an hour; of bursty, while it is calm.
    #[arg(long, default_value_t = 1000.0)]
    per_hour: f64,
    /// VMs an hour in a burst.
    #[arg(long, default_value_t = 20_000.0)]
    burst_per_hour: f64,
    /// Mean length of a calm, in seconds.
    #[arg(long, default_value_t = 14_400.0)]
    calm_s: f64,
    /// Mean length of a burst, in seconds.
    #[arg(long, default_value_t = 600.0)]
    burst_s: f64,
    /// endless, exponential:MEAN, pareto:MIN:ALPHA:MAX or log-normal:MEDIAN:SIGMA, in seconds.
    #[arg(long, value_parser = lifetimes, default_value = "log-normal:1800:2.5")]
    lifetimes: Lifetimes,
    /// Shapes as VCPUSxMIB:WEIGHT, with commas between them; a mix from 1x2048 to 16x65536 when
    /// left out.
    #[arg(long, value_parser = shape, value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// The mean use of vCPUs in thousandths, as LEAST-MOST.
    #[arg(long, value_parser = permille)]
    cpu_permille: Option<(u16, u16)>,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Format(Format),
    Poisson,
    Bursty,
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "poisson" => Ok(Self::Poisson),
            "bursty" => Ok(Self::Bursty),
            name => {
                name.parse().map(Self::Format).map_err(|error| format!("{error}, poisson, bursty"))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhichColumns {
    /// The five that every trace has.
    Core,
    /// All of them.
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unit {
    /// 1024 bytes.
    Kib,
    /// 1024 KiB.
    Mib,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BadRows {
    /// Stop and name it.
    Refuse,
    /// Leave it out and count it.
    Skip,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(converted) => {
            eprintln!("{} rows written, {} skipped", converted.rows, converted.skipped);
            for (line, why) in &converted.bad_rows {
                eprintln!("  line {line}: {why}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Converted, Box<dyn Error>> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let rows = match args.from {
        Some(From::Poisson | From::Bursty) => made(args, &bar)?,
        Some(From::Format(format)) => rows(args, Some(format), &bar)?,
        None => rows(args, None, &bar)?,
    };
    let form = match args.columns {
        _ if args.json => Form::Json,
        #[cfg(feature = "parquet")]
        _ if args.parquet => Form::Parquet,
        WhichColumns::All => Form::Plain(Columns::All),
        WhichColumns::Core => Form::Plain(Columns::Core),
    };
    let on_bad_row = match args.on_bad_row {
        BadRows::Refuse => OnBadRow::Refuse,
        BadRows::Skip => OnBadRow::Skip,
    };
    let told = bar.clone();
    let written = move |rows: u64| {
        // Often enough for the eye.
        if rows.is_multiple_of(4096) {
            told.set_message(format!("{rows} rows"));
        }
    };
    let converted = match stands_for_standard(&args.output) {
        true => convert(rows, io::stdout(), form, on_bad_row, written),
        false => convert_to_file(rows, &args.output, form, on_bad_row, written),
    };
    bar.finish_and_clear();
    Ok(converted?)
}

fn stands_for_standard(path: &Path) -> bool {
    path == Path::new("-")
}

fn rows(args: &Args, format: Option<Format>, bar: &ProgressBar) -> Result<Rows, Box<dyn Error>> {
    let options = options(&args.reading);
    let name = args.input.display();
    let named = |error: TraceError| format!("{name}: {}", one_line(&error));
    if stands_for_standard(&args.input) {
        bar.set_style(style("{spinner} {bytes} read, {msg}, {elapsed}"));
        return Ok(read(bar.wrap_read(io::stdin()), format, &options).map_err(named)?);
    }
    // A table is not read from its beginning to its end.
    if args.input.is_dir() || args.input.extension().is_some_and(|kind| kind == "parquet") {
        bar.set_style(style("{spinner} {msg}, {elapsed}"));
        return Ok(open(&args.input, format, &options).map_err(named)?);
    }
    let file = File::open(&args.input).map_err(|error| format!("cannot open {name}: {error}"))?;
    bar.set_length(file.metadata().map(|metadata| metadata.len()).unwrap_or(0));
    bar.set_style(style("{bar:40} {percent:>3} % read, {msg}, {elapsed} of about {duration}"));
    Ok(read(bar.wrap_read(file), format, &options).map_err(named)?)
}

fn options(reading: &Reading) -> ReadOptions {
    let resources =
        |vcpus, mib, gib| Resources { vcpus: Vcpus(vcpus), memory: MiB(mib), disk: GiB(gib) };
    let sort =
        SortOptions::default().with_memory_bytes(reading.sort_memory_mib.saturating_mul(1 << 20));
    let sort = match &reading.scratch {
        Some(folder) => sort.with_folder(folder.clone()),
        None => sort,
    };
    let machine =
        resources(reading.machine_vcpus, reading.machine_memory_mib, reading.machine_disk_gib);
    let mut options = ReadOptions::default()
        .with_machine(machine)
        .with_shape(resources(reading.vm_vcpus, reading.vm_memory_mib, 0))
        .with_over(Vcpus(reading.over_vcpus), MiB(reading.over_memory_mib))
        .with_memory_unit(match reading.memory_unit {
            Unit::Kib => MemoryUnit::KiB,
            Unit::Mib => MemoryUnit::MiB,
        })
        .with_sort(sort);
    options.vm_types = reading.vm_types.clone();
    options.machine_id = reading.machine_id;
    options
}

fn made(args: &Args, bar: &ProgressBar) -> Result<Rows, Box<dyn Error>> {
    bar.set_style(style("{spinner} {msg}, {elapsed}"));
    let making = &args.making;
    let arrivals = match args.from {
        Some(From::Bursty) => Arrivals::Bursty {
            calm_per_hour: making.per_hour,
            burst_per_hour: making.burst_per_hour,
            calm_s: making.calm_s,
            burst_s: making.burst_s,
        },
        _ => Arrivals::Poisson { per_hour: making.per_hour },
    };
    let mut recipe = Recipe::default()
        .with_arrivals(arrivals)
        .with_lifetimes(making.lifetimes)
        .with_rows(making.rows);
    if !making.shapes.is_empty() {
        recipe = recipe.with_shapes(making.shapes.clone());
    }
    recipe.cpu_permille = making.cpu_permille;
    Ok(Synthetic::new(recipe, Seed::new(making.seed))?.rows())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
