//! Azure's vmtable, V1 (2017) and V2 (2019).

use std::io::Read;

use nova_core::domain::{GiB, Invalid, MiB, Vcpus};

use super::lines::{self, Each, Lines, decimal};
use super::sort::Sorted;
use super::{BadRow, ReadOptions, Rows, TraceRow};

/// The largest memory of a VM that a table may tell, in GB.
const GB_MAX: f64 = 65536.0;

/// What a headerless row looks like.
pub(super) fn is_row(line: &[u8]) -> bool {
    let bucket =
        |field: &[u8]| field.starts_with(b">") || field.first().is_some_and(u8::is_ascii_digit);
    let row = lines::split::<11>(line);
    row.is_ok_and(|row| {
        lines::digits(row[3]).is_some()
            && lines::digits(row[4]).is_some()
            && bucket(row[9])
            && bucket(row[10])
    })
}

/// Whether this is the header that some put above the rows.
pub(super) fn is_header(line: &[u8]) -> bool {
    line.to_ascii_lowercase().starts_with(b"vmid,subscriptionid,")
}

pub(super) fn rows<R: Read + Send + 'static>(reader: R, options: &ReadOptions) -> Rows {
    let over = (options.over_vcpus, options.over_memory);
    let each = Each::new(Lines::new(reader), move |lines: &Lines<R>| {
        if lines.number() == 1 && is_header(lines.line()) {
            return Ok(None);
        }
        row(lines, over).map(Some)
    });
    Box::new(Sorted::new(each, options.sort.clone()))
}

fn row<R: Read>(lines: &Lines<R>, over: (Vcpus, MiB)) -> Result<TraceRow, BadRow> {
    let [_, _, _, created, deleted, _, avgcpu, _, _, cores, gb] = lines.columns()?;
    let arrival_s = lines::seconds("vmcreated", created)?;
    let end_s = lines::seconds("vmdeleted", deleted)?;
    if end_s < arrival_s {
        return Err(BadRow::EndsBeforeArrival { arrival_s, end_s });
    }
    Ok(TraceRow {
        line: lines.number(),
        vm: lines.number(),
        arrival_s,
        end_s: Some(end_s),
        vcpus: vcpus(cores, over.0)?,
        memory: memory(gb, over.1)?,
        disk: GiB(0),
        priority: 0,
        gang: None,
        cpu_permille: match avgcpu {
            b"" => None,
            avgcpu => {
                let percent = decimal("avgcpu", avgcpu, 0.0, 100.0, "empty, or 0 to 100 percent")?;
                Some((percent * 10.0).round() as u16)
            }
        },
    })
}

/// A number of cores, or more than the largest bucket has.
fn vcpus(field: &[u8], over: Vcpus) -> Result<Vcpus, Invalid> {
    match field {
        [b'>', ..] => Ok(over),
        field => {
            let cores = lines::number("vmcorecountbucket", field, 1, 4096, "1 to 4096, or >24")?;
            lines::vcpus("vmcorecountbucket", cores)
        }
    }
}

fn memory(field: &[u8], over: MiB) -> Result<MiB, Invalid> {
    match field {
        [b'>', ..] => Ok(over),
        field => {
            let allowed = "a number of GB up to 65536, or >64";
            let gb = decimal("vmmemorybucket", field, 0.0, GB_MAX, allowed)?;
            lines::memory("vmmemorybucket", lines::share_of(1024, gb))
        }
    }
}
