//! What a person sees: at the prompt, and of a table on a terminal.

use std::{fs, path::Path, process::Command};

use rustix::process::{Pid, Signal, kill_process};

use super::{served, terminal::Terminal};
use crate::program::Served;

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const BOLD: &str = "\u{1b}[1m";
const PROMPT: &str = "annals> ";

fn command(served: &Served, home: &Path, args: &[&str]) -> Command {
    let mut command = served.command(args);
    command
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .env_remove("NO_COLOR");
    command
}

fn prompt(served: &Served, home: &Path) -> Terminal {
    let mut terminal = Terminal::start(command(served, home, &["sql"]), 80);
    terminal.until(PROMPT);
    terminal
}

#[test]
fn statements_run_at_their_semicolon_and_mistakes_end_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let mut terminal = prompt(&served, dir.path());
    terminal.type_in("select position\rfrom events where position < 3;\r");
    let shown = terminal.until("2 rows in");
    assert!(shown.contains("       1\r\n       2\r\n"), "{shown:?}");
    terminal.until(", at position 3");
    terminal.until(PROMPT);

    terminal.type_in("select nope from events; select 1;\r");
    let shown = terminal.until("^");
    assert!(shown.contains("error: invalid SQL"), "{shown:?}");
    assert!(
        shown.ends_with("  select nope from events\r\n         ^"),
        "{shown:?}"
    );
    let shown = terminal.until(PROMPT);
    assert!(!shown.contains("row"), "the rest is not run: {shown:?}");

    // What is typed is given up, the prompt is not.
    terminal.type_in("select 'oops");
    terminal.type_in(CTRL_C);
    terminal.until(PROMPT);
    terminal.type_in("help\r");
    terminal.until("show tables;");
    terminal.until(PROMPT);
    terminal.type_in(CTRL_D);
    let (_, status) = terminal.end();
    assert!(status.success());
}

#[test]
fn tab_completes_what_the_server_has_and_statements_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let mut terminal = prompt(&served, dir.path());
    terminal.type_in("sel\t count(occ\t) as n from types.\"order.pa\t;\r");
    let shown = terminal.until("1 row in");
    assert!(shown.contains("\r\n─\r\n1\r\n"), "{shown:?}");
    terminal.until(PROMPT);
    terminal.type_in("quit\r");
    assert!(terminal.end().1.success());
    let history = fs::read_to_string(dir.path().join(".local/state/annals/sql_history")).unwrap();
    let typed = "select count(occurred_at) as n from types.\"order.paid\";";
    assert!(history.contains(typed), "{history}");

    let mut terminal = prompt(&served, dir.path());
    // Up, past `quit`.
    terminal.type_in("\u{1b}[A\u{1b}[A\r");
    terminal.until("1 row in");
}

#[test]
fn an_interrupt_gives_up_the_statement_and_not_the_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let mut terminal = prompt(&served, dir.path());
    let endless = "with recursive n as (select 1 as i union all select i + 1 from n where i > 0) select count(*) from n where i < 0;\r";
    terminal.type_in(endless);
    let process = i32::try_from(terminal.process())
        .ok()
        .and_then(Pid::from_raw);
    terminal.until_after("given up", || {
        kill_process(process.unwrap(), Signal::INT).unwrap();
    });
    terminal.until(PROMPT);
    terminal.type_in("select 41 + 1 as n;\r");
    terminal.until("42");
}

#[test]
fn a_table_fits_the_terminal_that_it_is_on() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let statement = "select position, repeat('x', 100) as \"long\", repeat('注', 30) as wide from events limit 1";
    let run = |columns: u16, no_colour: bool| {
        let mut command = command(&served, dir.path(), &["sql", statement]);
        if no_colour {
            command.env("NO_COLOR", "1");
        }
        let (shown, status) = Terminal::start(command, columns).end();
        assert!(status.success(), "{shown}");
        shown
    };
    let shown = run(60, true);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], "position  long                      wide");
    assert_eq!(
        lines[2],
        format!("       1  {}…  {}…", "x".repeat(23), "注".repeat(11))
    );
    assert!(lines[3].starts_with("1 row in "), "{lines:?}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(run(60, false).starts_with(BOLD));

    // Too narrow for columns side by side.
    let shown = run(24, true);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], format!("── row 1 {}", "─".repeat(15)));
    assert_eq!(lines[1], "position  1");
    assert_eq!(lines[2], "long      xxxxxxxxxxxxx…");
    assert_eq!(lines[3], "wide      注注注注注注…");
}

#[test]
fn bars_fit_the_terminal_that_they_are_on() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path());
    let args = ["frequency", "--occurred", "--bucket", "2h"];
    let (shown, status) = Terminal::start(command(&served, dir.path(), &args), 40).end();
    assert!(status.success(), "{shown}");
    let bar = "█".repeat(19);
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            format!("2026-01-01 10:00  2  {bar}"),
            format!("2026-01-01 12:00  1  {}▌", "█".repeat(9))
        ]
    );
}
