//! The one file of a whole pool.
//!
//! ```toml
//! master_url = "http://pool.example:8080"     # top: what several roles share
//! paymaker_http_password = "..."
//! root_workdir = "./datastore/pool"
//!
//! [node]                                      # the chain node
//! [master]
//! [paymaker]
//! [ann_handler.east]                          # one table for each handler
//! [block_handler.main]
//! ```
//! A `pool.toml` of the reference handler is such a file: it has the three keys at the top and
//! `[ann_handler.NAME]` tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::layers::{Layers, Origin, SettingsError, read_file};

/// Prefix of the environment variables: `PACKETCRYPT_MASTER_LISTEN` is `listen` of `[master]`.
const VARIABLE_PREFIX: &str = "PACKETCRYPT";
/// The file that is read when none is named, as the reference.
const DEFAULT_PATH: &str = "./pool.toml";
/// Keys at the top of the file.
const TOP_KEYS: &[&str] = &["master_url", "paymaker_http_password", "root_workdir", "private_seed"];
/// Tables of the file.
const TABLES: &[&str] = &["node", "master", "paymaker", "ann_handler", "block_handler"];
/// How `--set` names a key of `[node]`.
const NODE_KEY_PREFIX: &str = "node.";

/// A role that is configured by the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `[node]`.
    Node,
    /// `[master]`.
    Master,
    /// `[paymaker]`.
    Paymaker,
    /// `[ann_handler.NAME]`.
    AnnHandler,
    /// `[block_handler.NAME]`.
    BlockHandler,
}

impl Role {
    fn table(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Master => "master",
            Role::Paymaker => "paymaker",
            Role::AnnHandler => "ann_handler",
            Role::BlockHandler => "block_handler",
        }
    }

    /// Takes in the `--set` that are meant for this role: `node.urls=..` is for `[node]`, whatever
    /// role it was given to, provided that this has a node.
    fn assign(self, assignments: &[String], layers: &mut Layers) -> Result<(), SettingsError> {
        for assignment in assignments {
            match (self, assignment.strip_prefix(NODE_KEY_PREFIX)) {
                (Role::Node, Some(own)) => layers.assign(NODE_KEY_PREFIX, own)?,
                (Role::Master | Role::Paymaker | Role::BlockHandler, Some(_))
                | (Role::Node, None) => {}
                (_, _) => layers.assign("", assignment)?,
            }
        }
        Ok(())
    }

    /// Keys of the top that this role knows, with the name they have there.
    fn top_keys(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Role::Node => &[],
            Role::Master => &[("master_url", "master_url"), ("private_seed", "private_seed")],
            Role::Paymaker => &[
                ("paymaker_http_password", "paymaker_http_password"),
                ("private_seed", "private_seed"),
            ],
            Role::AnnHandler => &[
                ("master_url", "master_url"),
                ("paymaker_http_password", "paymaker_http_password"),
            ],
            Role::BlockHandler => &[
                ("master_url", "master_url"),
                ("paymaker_http_password", "paymaker_http_password"),
                ("private_seed", "private_seed"),
            ],
        }
    }
}

/// A pool file, or none: then everything has its default.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolFile {
    path: PathBuf,
    top: Table,
}

impl PoolFile {
    /// Reads the file. A key or table that no role knows is an error: it would be ignored, and the
    /// operator would believe it is not.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        let top = read_file(path)?;
        let known = |key: &str| TOP_KEYS.contains(&key) || TABLES.contains(&key);
        if let Some(unknown) = top.keys().find(|key| !known(key)) {
            // Its value may be a secret under another name.
            return Err(SettingsError::Parse {
                origin: path.display().to_string(),
                message: format!(
                    "{unknown}: unknown; the file has the keys {} and the tables {}",
                    TOP_KEYS.join(", "),
                    TABLES.join(", ")
                ),
            });
        }
        Ok(Self { path: path.to_owned(), top })
    }

    /// Reads the file that is named; else `pool.toml` of this directory, where it is.
    pub(crate) fn find(path: Option<&Path>) -> Result<Self, SettingsError> {
        match path {
            Some(path) => Self::read(path),
            None if Path::new(DEFAULT_PATH).exists() => Self::read(Path::new(DEFAULT_PATH)),
            None => Ok(Self::default()),
        }
    }

    /// The layers of one role: file, environment, command line.
    pub(crate) fn layers(
        &self,
        role: Role,
        name: Option<&str>,
        assignments: &[String],
    ) -> Result<Layers, SettingsError> {
        let mut layers = Layers::default();
        if let Some((table_name, table)) = self.table(role, name)? {
            layers.file(&self.path, &table_name, table);
        }
        for (top, key) in role.top_keys() {
            if let Some(value) = self.top.get(*top) {
                layers.set_if_absent(key, value.clone(), self.top_origin());
            }
        }
        self.derive(role, name, &mut layers);
        let prefix = variable_prefix(role, name);
        // A handler `east_2` is not the key `2_..` of a handler `east`.
        let others: Vec<String> = self
            .names(role)
            .iter()
            .map(|other| variable_prefix(role, Some(other)))
            .filter(|other| other.len() > prefix.len() && other.starts_with(&prefix))
            .collect();
        layers.process_environment(&prefix, &others);
        role.assign(assignments, &mut layers)?;
        Ok(layers)
    }

    /// Names of the handlers of a kind.
    pub(crate) fn names(&self, role: Role) -> Vec<String> {
        let table = self.top.get(role.table()).and_then(Value::as_table);
        table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    fn top_origin(&self) -> Origin {
        Origin::File { path: self.path.clone(), table: String::new() }
    }

    fn table(
        &self,
        role: Role,
        name: Option<&str>,
    ) -> Result<Option<(String, &Table)>, SettingsError> {
        let kind = self.top.get(role.table()).and_then(Value::as_table);
        let Some(name) = name else { return Ok(kind.map(|t| (role.table().to_owned(), t))) };
        let full = format!("{}.{name}", role.table());
        match kind.and_then(|kind| kind.get(name)).and_then(Value::as_table) {
            Some(table) => Ok(Some((full, table))),
            // Without a file everything comes from environment and command line.
            None if self.path.as_os_str().is_empty() => Ok(None),
            None => Err(SettingsError::NoTable {
                path: self.path.clone(),
                wanted: full,
                known: match self.names(role) {
                    names if names.is_empty() => format!("no [{}.NAME] at all", role.table()),
                    names => names.join(", "),
                },
            }),
        }
    }

    /// What follows from other parts of the file unless it is written out: directories below
    /// `root_workdir`, and for the master the addresses of the other roles.
    fn derive(&self, role: Role, name: Option<&str>, layers: &mut Layers) {
        let root = self.top.get("root_workdir").and_then(Value::as_str);
        if let Some(root) = root {
            let (key, dir) = match (role, name) {
                (Role::Master, _) => ("dir", format!("{root}/master")),
                (Role::Paymaker, _) => ("dir", format!("{root}/paymaker")),
                (Role::BlockHandler, Some(name)) => ("dir", format!("{root}/bh_{name}")),
                // A file of the reference has one handler a machine, whose files lie in `ah`
                // below the root itself.
                (Role::AnnHandler, Some(name)) if self.names(role).len() > 1 => {
                    ("root_workdir", format!("{root}/{name}"))
                }
                (Role::AnnHandler, _) => ("root_workdir", root.to_owned()),
                _ => return,
            };
            layers.set_if_absent(key, Value::String(dir), self.top_origin());
        }
        if role == Role::Master {
            for (kind, key) in [("ann_handler", "ann_handlers"), ("block_handler", "blk_handlers")]
            {
                let urls = self.public_urls(kind);
                if !urls.is_empty() {
                    let urls = urls.into_values().map(Value::String).collect();
                    layers.set_if_absent(key, Value::Array(urls), self.top_origin());
                }
            }
            let paymaker = self.top.get("paymaker").and_then(Value::as_table);
            if let Some(url) = paymaker.and_then(|t| t.get("url")) {
                layers.set_if_absent("paymaker_url", url.clone(), self.top_origin());
            }
        }
    }

    /// Base URLs of the handlers of a kind, by name.
    fn public_urls(&self, kind: &str) -> BTreeMap<String, String> {
        let tables = self.top.get(kind).and_then(Value::as_table);
        tables
            .into_iter()
            .flatten()
            .filter_map(|(name, table)| {
                let url = table.get("public_url")?.as_str()?;
                Some((name.clone(), url.trim_end_matches("/submit").to_owned()))
            })
            .collect()
    }
}

/// How the environment variables of a role begin, e.g. `PACKETCRYPT_ANN_HANDLER_EAST_`.
fn variable_prefix(role: Role, name: Option<&str>) -> String {
    let table = match name {
        Some(name) => format!("{}_{name}", role.table()),
        None => role.table().to_owned(),
    };
    let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{VARIABLE_PREFIX}_{}_", table.chars().map(letters).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> PoolFile {
        PoolFile { path: PathBuf::from("pool.toml"), top: text.parse().unwrap() }
    }

    const POOL: &str = r#"
        master_url = "http://m:8080"
        paymaker_http_password = "p"
        root_workdir = "/pool"
        [master]
        listen = "[::]:8080"
        [ann_handler.east]
        public_url = "http://e/submit"
        [ann_handler.west]
        public_url = "http://w/submit"
        [block_handler.main]
        public_url = "http://b"
        master_url = "http://own:8080"
    "#;

    #[test]
    fn roles_share_the_top_and_may_override_it() {
        let file = file(POOL);
        let text = |role, name| file.layers(role, name, &[]).unwrap().written();
        let master = text(Role::Master, None);
        assert!(master.contains("master_url = \"http://m:8080\"  # pool.toml\n"), "{master}");
        assert!(master.contains("ann_handlers = [\"http://e\", \"http://w\"]"), "{master}");
        assert!(master.contains("dir = \"/pool/master\""), "{master}");
        let block = text(Role::BlockHandler, Some("main"));
        assert!(
            block.contains("master_url = \"http://own:8080\"  # pool.toml [block_handler.main]")
        );
        let east = text(Role::AnnHandler, Some("east"));
        assert!(east.contains("root_workdir = \"/pool/east\""), "{east}");
    }

    #[test]
    fn a_missing_handler_is_named_with_those_that_are_there() {
        let error = file(POOL).layers(Role::AnnHandler, Some("north"), &[]).unwrap_err();
        assert_eq!(error.to_string(), "pool.toml: no [ann_handler.north]; it has east, west");
    }

    #[test]
    fn keys_of_the_node_are_set_by_their_table() {
        let file = file(POOL);
        let set = ["node.user=bob".to_owned(), "listen=[::]:1".to_owned()];
        let layers = |role, name| file.layers(role, name, &set).unwrap().written();
        assert_eq!(layers(Role::Node, None), "user = \"bob\"  # --set node.user\n");
        let master = layers(Role::Master, None);
        assert!(master.contains("# --set listen\n") && !master.contains("bob"), "{master}");
        // A role without a node does not know the key.
        assert!(layers(Role::AnnHandler, Some("east")).contains("node.user = \"bob\""));
    }

    #[test]
    fn unknown_parts_are_refused() {
        let dir = std::env::temp_dir().join(format!("packetcrypt-pool-{}", std::process::id()));
        std::fs::write(&dir, "[anhandler.x]\nmss = 77").unwrap();
        let text = PoolFile::read(&dir).unwrap_err().to_string();
        std::fs::remove_file(&dir).unwrap();
        assert!(text.contains("anhandler") && text.contains("ann_handler"), "{text}");
        assert!(!text.contains("77"), "what is not known may be a secret: {text}");
    }
}
