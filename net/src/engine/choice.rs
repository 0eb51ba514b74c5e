//! Which engine a program runs on, and why not the better one.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError, Epoll, Executors, Placement};

/// The engine that a program is told to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// glommio where it works, else epoll.
    #[default]
    Auto,
    /// glommio on io_uring, or an error.
    Glommio,
    /// tokio on epoll (elsewhere than on Linux what takes its place).
    Epoll,
}

/// No engine of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no engine {0}: there are auto, glommio and epoll")]
pub struct UnknownEngineError(pub String);

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Glommio => "glommio",
            Self::Epoll => "epoll",
        })
    }
}

impl FromStr for EngineKind {
    type Err = UnknownEngineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "glommio" => Ok(Self::Glommio),
            "epoll" => Ok(Self::Epoll),
            other => Err(UnknownEngineError(other.to_owned())),
        }
    }
}

/// What runs on each executor, whichever engine it belongs to.
pub trait Body: Clone + Send + 'static {
    /// Runs on one executor, which ends with it.
    fn run<E: Engine>(self, engine: E) -> impl Future<Output = ()> + 'static;
}

/// Starts the executors on the engine that is wanted, and says in one line of the log which it is
/// and why not the better one.
///
/// # Errors
/// The engine that was asked for does not work here, or not even epoll can be had.
pub fn start<B: Body>(
    wanted: EngineKind,
    placement: &Placement,
    body: B,
) -> Result<Executors, EngineError> {
    let name = &placement.name;
    if wanted == EngineKind::Epoll {
        let executors = start_on::<Epoll, B>(placement, body)?;
        tracing::info!("{name}: {executors}, as asked for");
        return Ok(executors);
    }
    let why_not = match start_glommio(placement, body.clone()) {
        Ok(executors) => {
            tracing::info!("{name}: {executors}");
            return Ok(executors);
        }
        Err(error @ EngineError::Count(_)) => return Err(error),
        Err(EngineError::Unavailable { why, .. }) => why,
        Err(error) => error.to_string(),
    };
    if wanted == EngineKind::Glommio {
        return Err(EngineError::Unavailable { engine: wanted, why: why_not });
    }
    let executors = start_on::<Epoll, B>(placement, body)?;
    tracing::info!("{name}: {executors}; not glommio: {why_not}");
    Ok(executors)
}

fn start_on<E: Engine, B: Body>(placement: &Placement, body: B) -> Result<Executors, EngineError> {
    E::start(placement, move |engine| body.clone().run(engine))
}

/// Why glommio can not be used here; None when it can.
#[must_use]
pub fn why_not_glommio() -> Option<String> {
    #[cfg(all(target_os = "linux", feature = "glommio"))]
    return super::glommio::why_not();
    #[cfg(not(all(target_os = "linux", feature = "glommio")))]
    Some(NOT_BUILT_IN.to_owned())
}

#[cfg(all(target_os = "linux", feature = "glommio"))]
fn start_glommio<B: Body>(placement: &Placement, body: B) -> Result<Executors, EngineError> {
    placement.check()?;
    match why_not_glommio() {
        Some(why) => Err(EngineError::Unavailable { engine: EngineKind::Glommio, why }),
        None => start_on::<super::Glommio, B>(placement, body),
    }
}

#[cfg(not(all(target_os = "linux", feature = "glommio")))]
fn start_glommio<B: Body>(placement: &Placement, _body: B) -> Result<Executors, EngineError> {
    placement.check()?;
    Err(EngineError::Unavailable { engine: EngineKind::Glommio, why: NOT_BUILT_IN.to_owned() })
}

#[cfg(not(all(target_os = "linux", feature = "glommio")))]
const NOT_BUILT_IN: &str = "it is for Linux, and built in by the feature `glommio` only";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[derive(Clone)]
    struct Tell(mpsc::Sender<&'static str>);

    impl Body for Tell {
        async fn run<E: Engine>(self, _engine: E) {
            self.0.send(E::NAME).unwrap();
        }
    }

    fn names(wanted: EngineKind) -> Result<Vec<&'static str>, EngineError> {
        let (sender, receiver) = mpsc::channel();
        let placement = Placement { name: "test".to_owned(), executors: 2, cpus: None };
        let executors = start(wanted, &placement, Tell(sender))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(executors.join()), Ok(()));
        Ok(receiver.iter().collect())
    }

    #[test]
    fn what_is_asked_for_is_used_and_auto_takes_the_best() {
        assert_eq!(names(EngineKind::Epoll).unwrap(), ["epoll (tokio)"; 2]);
        match why_not_glommio() {
            None => {
                assert_eq!(names(EngineKind::Glommio).unwrap(), ["glommio (io_uring)"; 2]);
                assert_eq!(names(EngineKind::Auto).unwrap(), ["glommio (io_uring)"; 2]);
            }
            Some(why) => {
                let error = names(EngineKind::Glommio).unwrap_err().to_string();
                assert_eq!(error, format!("engine glommio was asked for: {why}"));
                assert_eq!(names(EngineKind::Auto).unwrap(), ["epoll (tokio)"; 2]);
            }
        }
    }

    #[test]
    fn names_are_read_and_others_refused() {
        for kind in [EngineKind::Auto, EngineKind::Glommio, EngineKind::Epoll] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        let error = "kqueue".parse::<EngineKind>().unwrap_err();
        assert_eq!(error.to_string(), "no engine kqueue: there are auto, glommio and epoll");
    }
}
