//! What a role would run with: every key, its value and where it was written.

use serde::Serialize;
use serde_json::Value;

use crate::layers::{Layers, is_secret, without_credentials};

/// The settings as a table of a TOML file, with the place of each value as a comment. Secrets are
/// hidden; a key without a value is a comment.
pub(crate) fn describe<T: Serialize>(
    title: &str,
    layers: &Layers,
    config: &T,
) -> Result<String, serde_json::Error> {
    let mut text = format!("[{title}]\n");
    if let Value::Object(keys) = serde_json::to_value(config)? {
        for (key, value) in keys {
            let origin = layers.origin(&key);
            match toml_text(&key, &value) {
                Some(shown) => text.push_str(&format!("{key} = {shown}  # {origin}\n")),
                None => text.push_str(&format!("# {key} is not set  # {origin}\n")),
            }
        }
    }
    Ok(text)
}

/// A value as TOML writes it, `None` for no value.
fn toml_text(key: &str, value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) if is_secret(key) && !text.is_empty() => "\"<secret>\"".to_owned(),
        Value::String(text) => toml::Value::String(without_credentials(text)).to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(|item| toml_text(key, item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(keys) => {
            let pair = |(key, value): (&String, &Value)| {
                toml_text(key, value).map(|shown| format!("{key} = {shown}"))
            };
            let pairs: Vec<String> = keys.iter().filter_map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // Targets are read as hex by people.
        Value::Number(number) if key.ends_with("target") => {
            number.as_u64().map_or_else(|| number.to_string(), |word| format!("{word:#010x}"))
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use packetcrypt_proto::settings::Secret;

    use super::*;

    #[derive(Serialize)]
    struct Role {
        listen: String,
        ann_target: u32,
        depth: Option<u32>,
        private_seed: Option<Secret>,
        hosts: Vec<String>,
    }

    #[test]
    fn every_key_is_shown_with_its_place_and_secrets_are_not() {
        let mut layers = Layers::default();
        layers.command_line(&["listen=[::]:80".to_owned()]).unwrap();
        let role = Role {
            listen: "[::]:80".to_owned(),
            ann_target: 0x2002_0000,
            depth: None,
            private_seed: Some(Secret::new("correct horse")),
            hosts: vec!["a".to_owned(), "http://u:p@b".to_owned()],
        };
        let text = describe("master", &layers, &role).unwrap();
        let want = "[master]\n\
            listen = \"[::]:80\"  # --set listen\n\
            ann_target = 0x20020000  # default\n\
            # depth is not set  # default\n\
            private_seed = \"<secret>\"  # default\n\
            hosts = [\"a\", \"http://(hidden)@b\"]  # default\n";
        assert_eq!(text, want);
        assert!(text.parse::<toml::Table>().is_ok());
    }
}
