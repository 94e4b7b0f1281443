//! What no source file may hold, and what each must say.
//!
//! These are searches in text, not in syntax: comments are left out line by line, strings are
//! not. That is enough to notice an honest mistake, which is all a rule of the house is for.

use crate::workspace::{self, File};

/// The longest file that needs no defence.
const LINES_MAX: usize = 500;

/// What a longer file says in its first lines, followed by its reason.
const DEFENCE: &str = "Over 500 lines because";

/// Unfinished work, and tests that never run.
const UNFINISHED: [&str; 3] = ["todo!(", "unimplemented!(", "#[ignore"];

/// Time and chance that nobody handed in.
const AMBIENT: [&str; 9] = [
    "Instant::now",
    "SystemTime::now",
    "thread::sleep",
    "tokio::time",
    "rand::rng(",
    "rand::random",
    "thread_rng(",
    "Uuid::new_v4",
    "Uuid::now_v7",
];

/// The one place that may ask the machine for the time.
const CLOCK: &str = "nova-core/src/clock.rs";

/// The lines of a file without their comments, numbered from one.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")))
}

/// Lines whose code holds one of `words`.
fn lines_with(words: &[&str], file: &File) -> Vec<String> {
    code_lines(&file.text)
        .filter(|(_, code)| words.iter().any(|word| code.contains(word)))
        .map(|(number, code)| format!("{}:{number}: {}", file.path, code.trim()))
        .collect()
}

fn unfinished(file: &File) -> Vec<String> {
    lines_with(&UNFINISHED, file)
}

/// Only the sources of the four crates: a bench measures time, an example may show it.
fn ambient(file: &File) -> Vec<String> {
    let in_a_crate = file.path.starts_with("nova-") && file.path.contains("/src/");
    if in_a_crate && file.path != CLOCK { lines_with(&AMBIENT, file) } else { Vec::new() }
}

/// Every `select!` whose branches are polled in an order drawn by chance.
fn unordered(file: &File) -> Vec<String> {
    let code: String = code_lines(&file.text).flat_map(|(_, code)| [code, "\n"]).collect();
    code.match_indices("select!")
        .filter(|(at, found)| {
            let inside = code[at + found.len()..].trim_start();
            let inside = inside.strip_prefix(['{', '(']).unwrap_or(inside).trim_start();
            !inside.starts_with("biased;")
        })
        .map(|(at, _)| {
            let number = code[..at].matches('\n').count() + 1;
            format!("{}:{number}: `select!` without `biased;`", file.path)
        })
        .collect()
}

fn too_long(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    let mut first = file.text.lines().take_while(|line| line.starts_with("//!"));
    let defended = first.any(|line| line.contains(DEFENCE));
    (lines > LINES_MAX && !defended).then(|| format!("{}: {lines} lines", file.path))
}

fn unexplained(file: &File) -> Option<String> {
    let is_a_crate = file.path.ends_with("/src/lib.rs");
    (is_a_crate && !file.text.starts_with("//!")).then(|| file.path.clone())
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_ignored() {
    let files = workspace::rust_files_but_these_tests();
    let offences: Vec<String> = files.iter().flat_map(unfinished).collect();
    crate::assert_none("unfinished work or ignored tests", &offences);
}

#[test]
fn time_and_chance_are_handed_in() {
    let files = workspace::rust_files_but_these_tests();
    let offences: Vec<String> = files.iter().flat_map(ambient).collect();
    crate::assert_none("ambient time or chance: take a `Clock` or a `Seed`", &offences);
}

#[test]
fn every_select_is_biased() {
    let files = workspace::rust_files_but_these_tests();
    let offences: Vec<String> = files.iter().flat_map(unordered).collect();
    crate::assert_none("branches in an order drawn by chance", &offences);
}

#[test]
fn a_long_file_says_why() {
    let offences: Vec<String> = workspace::rust_files().iter().filter_map(too_long).collect();
    crate::assert_none(
        &format!("files to split, or to defend with a first line `//! {DEFENCE} …`"),
        &offences,
    );
}

#[test]
fn every_crate_begins_by_saying_what_it_is() {
    let offences: Vec<String> = workspace::rust_files().iter().filter_map(unexplained).collect();
    crate::assert_none("crates whose lib.rs does not begin with `//!`", &offences);
}

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn unfinished_work_is_found_in_code_but_not_in_comments() {
    let check = |text: &str| unfinished(&file("nova-net/tests/it/main.rs", text)).len();
    assert_eq!(check("fn f() {\n    todo!()\n}\n"), 1);
    assert_eq!(check("unimplemented!(\"later\")\n"), 1);
    assert_eq!(check("#[ignore = \"slow\"]\n"), 1);
    assert_eq!(check("// never todo!()\n"), 0);
}

#[test]
fn ambient_time_is_found_in_crates_and_allowed_in_the_clock_and_in_benches() {
    let check = |path: &str| ambient(&file(path, "let now = Instant::now();\n")).len();
    assert_eq!([check("nova-core/src/seed.rs"), check("nova-virt/src/sim/mod.rs")], [1, 1]);
    assert_eq!(
        [check(CLOCK), check("benches/src/lib.rs"), check("nova-net/tests/it/a.rs")],
        [0; 3]
    );
}

#[test]
fn only_a_biased_select_has_an_order() {
    let check = |text: &str| unordered(&file("nova-core/src/a.rs", text));
    assert!(check("tokio::select! {\n    // first things first\n    biased;\n}\n").is_empty());
    let found = check("\ntokio::select! {\n    () = a => {}\n}\n");
    assert_eq!(found, ["nova-core/src/a.rs:2: `select!` without `biased;`"]);
}

#[test]
fn the_five_hundred_and_first_line_needs_a_defence() {
    let check = |head: &str, lines: usize| {
        too_long(&file("benches/a.rs", &format!("{head}{}", "x\n".repeat(lines)))).is_some()
    };
    assert!(!check("", LINES_MAX));
    assert!(check("", LINES_MAX + 1));
    assert!(!check("//! A table.\n//!\n//! Over 500 lines because it is one.\n", LINES_MAX));
    assert!(check("x\n//! Over 500 lines because it is late.\n", LINES_MAX));
}

#[test]
fn a_crate_without_first_words_is_found() {
    let check = |path: &str, text: &str| unexplained(&file(path, text)).is_some();
    assert!(check("nova-net/src/lib.rs", ""));
    assert!(!check("nova-net/src/lib.rs", "//! Networks.\n"));
    assert!(!check("nova-net/src/pool.rs", "use std::fmt;\n"));
}
