//! Numbers as ECMAScript prints them (spec 05, 2.3).
//!
//! Warnings, file names and JSON replies of the pool are compared as text by peers and operators,
//! so a double is printed as the reference prints it: shortest digits that round-trip, no ".0",
//! an exponent only from 1e21 and below 1e-6.

/// Text of a double as `Number::toString` of ECMAScript gives it, with `NaN` and `Infinity`.
#[must_use]
pub fn to_text(number: f64) -> String {
    ryu_js::Buffer::new().format(number).to_owned()
}

#[cfg(test)]
mod tests {
    use super::to_text;

    #[test]
    fn numbers_print_as_in_ecmascript() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (18_446_744_073_709_551_615.0, "18446744073709552000"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (number, text) in cases {
            assert_eq!(to_text(number), text);
        }
    }
}
