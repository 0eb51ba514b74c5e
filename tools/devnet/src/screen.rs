//! The terminal that the live view and the log share.
//!
//! The view is drawn over itself, so whatever else is written there has to go above it: the lines of
//! the view are taken away, the text is written, and the lines come back below it.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lines of the view as they stand on the terminal; none when there is no view.
static DRAWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Lines that are longer than the terminal is wide are cut by it: wrapped ones could not be
/// counted.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Draws the lines of the view in place of those that are there.
pub(crate) fn draw(out: &mut impl Write, lines: Vec<String>) -> io::Result<()> {
    let mut drawn = lock();
    let mut text = taken_away(&drawn);
    push_lines(&mut text, &lines);
    *drawn = lines;
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Leaves the lines where they are: what is written from now on goes below them.
pub(crate) fn leave() {
    lock().clear();
}

/// Writes above the view, if there is one; for logs.
#[derive(Debug)]
pub struct AboveView<W>(pub W);

impl<W: Write> Write for AboveView<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let drawn = lock();
        if drawn.is_empty() {
            return self.0.write(bytes);
        }
        let mut text = taken_away(&drawn).into_bytes();
        text.extend_from_slice(bytes);
        if bytes.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        let mut lines = String::new();
        push_lines(&mut lines, &drawn);
        text.extend_from_slice(lines.as_bytes());
        self.0.write_all(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Up over the lines, and clear to the end of the screen.
fn taken_away(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("\x1b[{}A\x1b[J", lines.len()) }
}

fn push_lines(text: &mut String, lines: &[String]) {
    text.push_str(NO_WRAP);
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(WRAP);
}

fn lock() -> MutexGuard<'static, Vec<String>> {
    // The lines are replaced as a whole.
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_stands_above_the_view() {
        let mut terminal = Vec::new();
        let mut log = Vec::new();
        AboveView(&mut log).write_all(b"before\n").unwrap();
        assert_eq!(log, b"before\n");
        draw(&mut terminal, vec!["one".to_owned(), "two".to_owned()]).unwrap();
        assert_eq!(terminal, b"\x1b[?7lone\ntwo\n\x1b[?7h");
        log.clear();
        AboveView(&mut log).write_all(b"warning\n").unwrap();
        assert_eq!(log, b"\x1b[2A\x1b[Jwarning\n\x1b[?7lone\ntwo\n\x1b[?7h");
        terminal.clear();
        draw(&mut terminal, vec!["three".to_owned()]).unwrap();
        assert_eq!(terminal, b"\x1b[2A\x1b[J\x1b[?7lthree\n\x1b[?7h");
        leave();
        log.clear();
        AboveView(&mut log).write_all(b"after").unwrap();
        assert_eq!(log, b"after");
    }
}
