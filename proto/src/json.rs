//! JSON as `JSON.stringify` of ECMAScript writes it.
//!
//! Use these instead of `serde_json::to_string` for everything that leaves a program: doubles are
//! printed as in [`crate::number`], the form with tabs is the one of `config.json`, `blkinfo` and
//! `whotopay`. Not-a-number and infinities are `null`.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// One line without spaces.
///
/// # Panics
/// When the value can not be JSON at all (a map with keys that are no strings): a fault of the
/// program, no message of this package does so.
#[must_use]
pub fn to_line<T: Serialize + ?Sized>(value: &T) -> String {
    write(value, CompactFormatter)
}

/// Indented with tabs.
///
/// # Panics
/// As [`to_line`].
#[must_use]
pub fn to_tabbed<T: Serialize + ?Sized>(value: &T) -> String {
    write(value, PrettyFormatter::with_indent(b"\t"))
}

fn write<T: Serialize + ?Sized, F: Formatter>(value: &T, formatter: F) -> String {
    let mut text = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(&mut text, EcmaFormatter(formatter)))
        .expect("writing to memory does not fail and messages have text keys");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Passes everything on, except for doubles.
struct EcmaFormatter<F>(F);

impl<F: Formatter> Formatter for EcmaFormatter<F> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(ryu_js::Buffer::new().format(value).as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_indentation_are_those_of_ecmascript() {
        let value =
            serde_json::json!({"a": 1.0, "b": [1e21, 0.000001], "c": {}, "d": [], "e": null});
        assert_eq!(to_line(&value), r#"{"a":1,"b":[1e+21,0.000001],"c":{},"d":[],"e":null}"#);
        let tabbed = "{\n\t\"a\": 1,\n\t\"b\": [\n\t\t1e+21,\n\t\t0.000001\n\t],\n\t\"c\": {},\n\t\"d\": [],\n\t\"e\": null\n}";
        assert_eq!(to_tabbed(&value), tabbed);
    }

    #[test]
    fn no_number_is_null() {
        assert_eq!(to_line(&[f64::NAN, f64::INFINITY, 2.5]), "[null,null,2.5]");
    }

    #[test]
    fn text_is_escaped_as_in_ecmascript() {
        assert_eq!(
            to_line("\u{1}\u{8}\"\\\u{7f}\u{e9}\n"),
            "\"\\u0001\\b\\\"\\\\\u{7f}\u{e9}\\n\""
        );
    }
}
