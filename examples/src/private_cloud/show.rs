//! What a person sees: sections, tables, a bar while something takes time.

use std::io::Write;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nova_core::domain::MiB;

/// Where the story is told.
pub trait Screen {
    /// A new part of it begins.
    fn section(&mut self, title: &str, sentence: &str);
    /// A remark.
    fn say(&mut self, line: &str);
    /// A table.
    fn table(&mut self, table: &Table);
    /// So many of a number of things are done. Comes with zero first and with all of them last.
    fn progress(&mut self, what: &str, done: usize, of: usize);
}

/// Tells nobody.
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct Silent;

impl Screen for Silent {
    fn section(&mut self, _: &str, _: &str) {}
    fn say(&mut self, _: &str) {}
    fn table(&mut self, _: &Table) {}
    fn progress(&mut self, _: &str, _: usize, _: usize) {}
}

/// Text on standard output, and a bar on standard error where that is a terminal.
#[derive(Debug)]
pub struct Terminal {
    text: bool,
    sections: u32,
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// Sections, tables and bars.
    pub fn new() -> Self {
        Self { text: true, sections: 0, bar: None }
    }

    /// Bars only; standard output stays free for something else.
    pub fn bars_only() -> Self {
        Self { text: false, ..Self::new() }
    }

    fn write(&mut self, text: &str) {
        if self.text {
            // A reader that went away is no reason to leave the work half done.
            self.text = writeln!(std::io::stdout().lock(), "{text}").is_ok();
        }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen for Terminal {
    fn section(&mut self, title: &str, sentence: &str) {
        self.sections += 1;
        let number = self.sections;
        self.write(&format!("\n{number}. {title}\n   {sentence}\n"));
    }

    fn say(&mut self, line: &str) {
        self.write(&format!("   {line}"));
    }

    fn table(&mut self, table: &Table) {
        for line in table.lines() {
            self.write(&format!("   {}", line.trim_end()));
        }
    }

    fn progress(&mut self, what: &str, done: usize, of: usize) {
        if done >= of {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("   {msg} {bar:32} {pos}/{len}");
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
        bar.set_length(of as u64);
        bar.set_message(what.to_owned());
        bar.set_position(done as u64);
    }
}

/// A table with these columns; one whose name begins with `>` is aligned to the right.
pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(columns.iter().map(|column| column.trim_start_matches('>')));
    for (at, column) in columns.iter().enumerate() {
        if let (true, Some(column)) = (column.starts_with('>'), table.column_mut(at)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `512 MiB`, `64 GiB`, `1.5 GiB`.
pub(super) fn memory(amount: MiB) -> String {
    match amount.0 {
        whole if whole % 1024 == 0 => format!("{} GiB", whole / 1024),
        large if large > 1024 => format!("{:.1} GiB", large as f64 / 1024.0),
        small => format!("{small} MiB"),
    }
}

/// `84 ms`, `1.20 s`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

/// `1 host`, `2 hosts`.
pub(super) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_for_people() {
        assert_eq!(
            [512, 1024, 1536, 65536].map(|m| memory(MiB(m))),
            ["512 MiB", "1 GiB", "1.5 GiB", "64 GiB"]
        );
        assert_eq!([84, 1200].map(|ms| time(Duration::from_millis(ms))), ["84 ms", "1.20 s"]);
    }
}
