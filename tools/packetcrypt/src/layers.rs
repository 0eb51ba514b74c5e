//! Settings in layers: default < file < environment < command line.
//!
//! Every role has one table of keys. The layers are merged as TOML values, each remembering where it
//! came from, and only then parsed into the role's own type; so precedence is the same for every
//! key of every role, and an error can name the place where the value was written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A configuration file is not longer.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Names of keys in the files of the reference, and ours.
const ALIASES: &[(&str, &str)] = &[
    ("masterUrl", "master_url"),
    ("privateSeed", "private_seed"),
    ("annHandlers", "ann_handlers"),
    ("blkHandlers", "blk_handlers"),
    ("paymakerUrl", "paymaker_url"),
    ("paymakerHttpPasswd", "paymaker_http_password"),
    ("annMinWork", "ann_target"),
    ("ann_min_work", "ann_target"),
    ("shareMinWork", "share_target"),
    ("share_min_work", "share_target"),
    ("shareWorkDivisor", "share_work_divisor"),
    ("annVersions", "ann_versions"),
    ("mineOldAnns", "mine_old_anns"),
    ("maxConnections", "max_connections"),
    ("http_password", "paymaker_http_password"),
    ("updateCycle", "update_cycle_s"),
    ("update_cycle", "update_cycle_s"),
    ("historyDepth", "history_depth_s"),
    ("history_depth", "history_depth_s"),
    ("annCompressor", "ann_compressor"),
    ("blockPayoutFraction", "block_payout_fraction"),
    ("poolFee", "pool_fee"),
    ("poolFeeAddress", "pool_fee_address"),
    ("pplnsAnnConstantX", "pplns_ann_constant_x"),
    ("pplnsBlkConstantX", "pplns_blk_constant_x"),
    ("defaultAddress", "default_address"),
    ("errorAddress", "error_address"),
    ("payment_addr", "payment_address"),
    ("upload_timeout", "upload_timeout_s"),
];

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In a table of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The table, empty for the top of the file.
        table: String,
    },
    /// In an environment variable.
    Environment(String),
    /// On the command line.
    CommandLine(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, table } if table.is_empty() => write!(f, "{}", path.display()),
            Origin::File { path, table } => write!(f, "{} [{table}]", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::CommandLine(option) => write!(f, "{option}"),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A file can not be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is too long to be a configuration.
    #[error("{path}: {bytes} bytes, a configuration has at most {FILE_BYTES_MAX}")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A file is not TOML.
    #[error("{path}: line {line}: {message}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where the parser stopped, from 1.
        line: usize,
        /// What is wrong there. The line itself may hold a secret and is not shown.
        message: String,
    },
    /// The file has no table of this name.
    #[error("{path}: no [{wanted}]; it has {known}")]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The table that is wanted.
        wanted: String,
        /// Tables of the kind that are there.
        known: String,
    },
    /// `--set` without `=`.
    #[error("--set {0:?}: must have the form KEY=VALUE")]
    Set(String),
    /// A value does not fit its key, or the key is unknown.
    #[error("{origin}: {message}")]
    Parse {
        /// Where it was written.
        origin: String,
        /// What the parser says; it names key and value.
        message: String,
    },
    /// A value breaks a rule of the role.
    #[error("{origin}: {key} = {value}: {rule}")]
    Rule {
        /// Where it was written, or "default".
        origin: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The rule.
        rule: String,
    },
}

/// Reads a TOML file.
pub(crate) fn read_file(path: &Path) -> Result<Table, SettingsError> {
    let failed = |error| SettingsError::File { path: path.to_owned(), error };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(SettingsError::TooLong { path: path.to_owned(), bytes });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.lines().count().max(1);
        SettingsError::Toml { path: path.to_owned(), line, message: error.message().to_owned() }
    })
}

/// The merged keys of one role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    values: Table,
    origins: BTreeMap<String, Origin>,
    /// What the environment and the command line say: text whose type the role decides.
    texts: BTreeMap<String, String>,
}

impl Layers {
    /// Sets a key; a later layer overrides an earlier one.
    pub(crate) fn set(&mut self, key: &str, value: Value, origin: Origin) {
        let key = canonical(key);
        self.values.insert(key.to_owned(), value);
        self.origins.insert(key.to_owned(), origin);
        self.texts.remove(key);
    }

    /// Sets a key to what a text means: a number or list where it is one, else the text itself.
    pub(crate) fn set_text(&mut self, key: &str, text: &str, origin: Origin) {
        self.set(key, guess(text), origin);
        self.texts.insert(canonical(key).to_owned(), text.to_owned());
    }

    /// Sets keys to the texts of the options that were given: key, option as it is written, text.
    pub(crate) fn options<const N: usize>(&mut self, options: [(&str, &str, Option<String>); N]) {
        for (key, option, text) in options {
            if let Some(text) = text {
                self.set_text(key, &text, Origin::CommandLine(option.to_owned()));
            }
        }
    }

    /// Sets a key unless a layer has already done so.
    pub(crate) fn set_if_absent(&mut self, key: &str, value: Value, origin: Origin) {
        if !self.values.contains_key(canonical(key)) {
            self.set(key, value, origin);
        }
    }

    /// Takes in a table of a file.
    pub(crate) fn file(&mut self, path: &Path, name: &str, table: &Table) {
        for (key, value) in table {
            let origin = Origin::File { path: path.to_owned(), table: name.to_owned() };
            self.set(key, value.clone(), origin);
        }
    }

    /// Takes in the environment variables `<prefix><KEY>`, but for those that begin with one of
    /// `others`: `PACKETCRYPT_ANN_HANDLER_..` is no key of `PACKETCRYPT_ANN_`.
    pub(crate) fn environment(
        &mut self,
        prefix: &str,
        others: &[String],
        variables: impl Iterator<Item = (String, String)>,
    ) {
        for (name, value) in variables {
            if others.iter().any(|other| name.starts_with(other.as_str())) {
                continue;
            }
            if let Some(key) = name.strip_prefix(prefix) {
                let origin = Origin::Environment(name.clone());
                self.set_text(&key.to_ascii_lowercase(), &value, origin);
            }
        }
    }

    /// Takes in the variables of this process.
    pub(crate) fn process_environment(&mut self, prefix: &str, others: &[String]) {
        // Variables that are no text are not ours.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        self.environment(prefix, others, variables);
    }

    /// Takes in the `--set KEY=VALUE` of the command line.
    pub(crate) fn command_line(&mut self, assignments: &[String]) -> Result<(), SettingsError> {
        assignments.iter().try_for_each(|assignment| self.assign("", assignment))
    }

    /// Takes in `KEY=VALUE` of `--set <table>KEY=VALUE`.
    pub(crate) fn assign(&mut self, table: &str, assignment: &str) -> Result<(), SettingsError> {
        let parts = assignment.split_once('=');
        let (key, value) = parts.ok_or_else(|| SettingsError::Set(assignment.to_owned()))?;
        let origin = Origin::CommandLine(format!("--set {table}{}", key.trim()));
        self.set_text(key.trim(), value.trim(), origin);
        Ok(())
    }

    /// Whether the command line has said what a key is.
    pub(crate) fn is_from_command_line(&self, key: &str) -> bool {
        matches!(self.origins.get(key), Some(Origin::CommandLine(_)))
    }

    /// Where a key was written.
    pub(crate) fn origin(&self, key: &str) -> String {
        // A rule may name an element, e.g. `ann_handlers[0]`.
        let base = key.split(['[', '.']).next().unwrap_or(key);
        self.origins.get(base).map_or_else(|| "default".to_owned(), Origin::to_string)
    }

    /// Parses the merged keys. Every key of a role has a default, so that a key that does not fit
    /// is found by parsing each one alone.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        let mut values = self.values.clone();
        for (key, text) in &self.texts {
            if let Some(value) = fitting::<T>(key, text) {
                values.insert(key.clone(), value);
            }
        }
        let error = match T::deserialize(Value::Table(values)) {
            Ok(parsed) => return Ok(parsed),
            Err(error) => error,
        };
        let culprit = self.values.iter().find_map(|(key, value)| {
            if self.texts.get(key).is_some_and(|text| fitting::<T>(key, text).is_some()) {
                return None;
            }
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            T::deserialize(Value::Table(alone)).err().map(|error| (key.as_str(), error))
        });
        Err(match culprit {
            Some((key, error)) => self.parse_error(Some(key), &error),
            None => self.parse_error(None, &error),
        })
    }

    fn parse_error(&self, key: Option<&str>, error: &toml::de::Error) -> SettingsError {
        let message = error.message();
        match key {
            // A table may hold a secret as well, and so may a key that nobody knows.
            Some(key)
                if is_secret(key)
                    || self.values[key].is_table()
                    || message.starts_with("unknown field") =>
            {
                SettingsError::Parse {
                    origin: self.origin(key),
                    message: format!("{key}: {message}"),
                }
            }
            Some(key) => {
                let value = without_credentials(&self.values[key].to_string());
                let message = without_credentials(message);
                SettingsError::Parse {
                    origin: self.origin(key),
                    message: format!("{key} = {value}: {message}"),
                }
            }
            None => {
                SettingsError::Parse { origin: "settings".to_owned(), message: message.to_owned() }
            }
        }
    }

    /// All keys that some layer has set, with their places.
    #[cfg(test)]
    pub(crate) fn written(&self) -> String {
        let line =
            |(key, value): (&String, &Value)| format!("{key} = {value}  # {}\n", self.origin(key));
        self.values.iter().map(line).collect()
    }

    /// An error of a role's own check, with the place where the value was written.
    pub(crate) fn rule(&self, key: &str, value: &str, rule: &str) -> SettingsError {
        SettingsError::Rule {
            origin: self.origin(key),
            key: key.to_owned(),
            value: without_credentials(if value.is_empty() { "\"\"" } else { value }),
            rule: rule.to_owned(),
        }
    }
}

/// Whether the value of a key is not to be shown.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "seed", "secret"].iter().any(|part| key.contains(part))
}

/// A text without what its addresses say between `://` and `@`: user and password.
pub(crate) fn without_credentials(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends = |c: char| matches!(c, '/' | '"' | '\'' | ',' | '?' | '#') || c.is_whitespace();
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(at) => {
                shown.push_str("(hidden)");
                &after[at..]
            }
            None => after,
        };
    }
    shown + rest
}

/// The first reading of a text that a role takes for a key: a TOML value, text, a list of texts.
fn fitting<T: DeserializeOwned>(key: &str, text: &str) -> Option<Value> {
    let list = || Value::Array(text.split(',').map(|it| Value::String(it.trim().into())).collect());
    [guess(text), Value::String(text.to_owned()), list()].into_iter().find(|value| {
        let alone = Table::from_iter([(key.to_owned(), value.clone())]);
        T::deserialize(Value::Table(alone)).is_ok()
    })
}

/// Our name of a key that the reference writes otherwise, so that all layers mean the same key.
fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name)
}

/// A value of the environment or command line: TOML where it is TOML, else text as it is.
fn guess(text: &str) -> Value {
    let parsed: Result<Table, _> = format!("value = {text}").parse();
    match parsed.ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Role {
        listen: String,
        depth: u32,
        password: String,
    }

    fn layers() -> Layers {
        let mut layers = Layers::default();
        let file: Table = "listen = \"file\"\ndepth = 1\npassword = \"p\"".parse().unwrap();
        layers.file(Path::new("pool.toml"), "master", &file);
        layers
    }

    #[test]
    fn credentials_of_addresses_are_not_shown() {
        for (text, shown) in [
            ("http://u:p@h:1/x", "http://(hidden)@h:1/x"),
            ("[\"http://a/\", \"http://u:p/q@h\"]", "[\"http://a/\", \"http://u:p/q@h\"]"),
            (
                "[\"http://a@b/\", \"https://u:p@h\"]",
                "[\"http://(hidden)@b/\", \"https://(hidden)@h\"]",
            ),
            ("a@b http://h/@x", "a@b http://h/@x"),
            ("http://a:b@c@d", "http://(hidden)@d"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn command_line_beats_environment_beats_file_beats_default() {
        let mut layers = layers();
        let role = |layers: &Layers| layers.parse::<Role>().unwrap();
        assert_eq!((role(&layers).listen.as_str(), role(&layers).depth), ("file", 1));
        let variables = [("PC_M_DEPTH", "2"), ("X", "9"), ("PC_M_X_DEPTH", "9")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        layers.environment("PC_M_", &["PC_M_X_".to_owned()], variables.into_iter());
        assert_eq!((role(&layers).listen.as_str(), role(&layers).depth), ("file", 2));
        layers.command_line(&["depth=3".to_owned(), "listen=127.0.0.1:80".to_owned()]).unwrap();
        assert_eq!((role(&layers).listen.as_str(), role(&layers).depth), ("127.0.0.1:80", 3));
        assert_eq!(Layers::default().parse::<Role>().unwrap(), Role::default());
        layers.set_if_absent("depth", Value::Integer(9), Origin::CommandLine("x".to_owned()));
        assert_eq!(role(&layers).depth, 3);
    }

    #[test]
    fn errors_name_the_place_and_the_key() {
        let mut layers = layers();
        layers.command_line(&["dept=3".to_owned()]).unwrap();
        let text = layers.parse::<Role>().unwrap_err().to_string();
        assert!(text.contains("--set dept") && text.contains("unknown field `dept`"), "{text}");
        let mut layers = self::layers();
        layers.command_line(&["depth=many".to_owned()]).unwrap();
        let text = layers.parse::<Role>().unwrap_err().to_string();
        assert!(text.starts_with("--set depth: depth = \"many\": "), "{text}");
        let rule = self::layers().rule("depth", "1", "must be 5").to_string();
        assert_eq!(rule, "pool.toml [master]: depth = 1: must be 5");
        assert!(layers.command_line(&["novalue".to_owned()]).is_err());
    }

    #[test]
    fn the_role_decides_what_a_text_is() {
        #[derive(Debug, Default, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        struct Role {
            password: String,
            hosts: Vec<String>,
            depth: u32,
        }
        let mut layers = Layers::default();
        let said = ["password=1234", "hosts=a:1, b:2", "depth=0x10"].map(str::to_owned);
        layers.command_line(&said).unwrap();
        let hosts = vec!["a:1".to_owned(), "b:2".to_owned()];
        let want = Role { password: "1234".to_owned(), hosts, depth: 16 };
        assert_eq!(layers.parse::<Role>().unwrap(), want);
        layers.command_line(&["hosts=[\"c\"]".to_owned()]).unwrap();
        assert_eq!(layers.parse::<Role>().unwrap().hosts, ["c"]);
    }

    #[test]
    fn a_secret_is_in_no_error() {
        let mut layers = Layers::default();
        let table: Table = "password = [\"correct horse\"]".parse().unwrap();
        layers.file(Path::new("pool.toml"), "master", &table);
        let text = layers.parse::<Role>().unwrap_err().to_string();
        assert!(text.starts_with("pool.toml [master]: password: "), "{text}");
        assert!(!text.contains("horse"), "{text}");
    }

    #[test]
    fn names_of_the_reference_are_the_same_key() {
        let mut layers = Layers::default();
        layers.set("masterUrl", Value::Integer(1), Origin::CommandLine("a".to_owned()));
        layers.set("master_url", Value::Integer(2), Origin::CommandLine("b".to_owned()));
        assert_eq!((layers.values.len(), layers.origin("master_url")), (1, "b".to_owned()));
    }
}
