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
    /// Whether the last line was one of text, which a table should not touch.
    after_text: bool,
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// Sections, tables and bars.
    pub fn new() -> Self {
        Self { text: true, sections: 0, after_text: false, bar: None }
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
        self.write(&format!("\n{number}. {title}"));
        self.say(sentence);
    }

    fn say(&mut self, line: &str) {
        for line in wrapped(line) {
            self.write(&format!("   {line}"));
        }
        self.after_text = true;
    }

    fn table(&mut self, table: &Table) {
        if std::mem::take(&mut self.after_text) {
            self.write("");
        }
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

/// A text in lines that fit between the borders of most terminals. Spaces at the ends of words
/// are kept, so that columns stay columns.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 96;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else if let Some(last) = lines.last_mut() {
            if line > 0 {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// A table with these columns; one whose name begins with `>` is aligned to the right.
pub(crate) fn table(columns: &[&str]) -> Table {
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
pub(crate) fn time(time: Duration) -> String {
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
    fn long_text_is_wrapped_between_words() {
        let lines = wrapped(&"word ".repeat(40));
        assert!(
            lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= 96),
            "{lines:?}"
        );
        assert_eq!(wrapped("a  b"), ["a  b"]);
    }

    #[test]
    fn amounts_are_written_for_people() {
        assert_eq!(
            [512, 1024, 1536, 65536].map(|m| memory(MiB(m))),
            ["512 MiB", "1 GiB", "1.5 GiB", "64 GiB"]
        );
        assert_eq!([84, 1200].map(|ms| time(Duration::from_millis(ms))), ["84 ms", "1.20 s"]);
    }
}
