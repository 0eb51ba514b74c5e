//! Which engine a program runs on, and why not a better one.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError, Epoll, Executors, Placement};

/// The engine that a program is told to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The first of the others that works.
    #[default]
    Auto,
    /// Our own on io_uring, or an error.
    Uring,
    /// glommio on io_uring, or an error.
    Glommio,
    /// tokio on epoll (elsewhere than on Linux what takes its place).
    Epoll,
}

/// No engine of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no engine {0}: there are auto, uring, glommio and epoll")]
pub struct UnknownEngineError(pub String);

impl EngineKind {
    /// The engines there are, the best one first.
    pub const BEST_FIRST: [Self; 3] = [Self::Uring, Self::Glommio, Self::Epoll];

    /// What a program says it runs on.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Auto => "the best engine",
            Self::Uring => "uring (io_uring)",
            Self::Glommio => "glommio (io_uring)",
            Self::Epoll => "epoll (tokio)",
        }
    }

    /// The engine that [`Auto`](Self::Auto) is on this machine; another is itself.
    #[must_use]
    pub fn chosen(self) -> Self {
        match self {
            Self::Auto => {
                let works = |kind: &Self| kind.why_not().is_none();
                Self::BEST_FIRST.into_iter().find(works).unwrap_or(Self::Epoll)
            }
            kind => kind,
        }
    }

    /// Why it can not be used here; None when it can.
    #[must_use]
    pub fn why_not(self) -> Option<String> {
        match self {
            Self::Auto | Self::Epoll => None,
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Self::Uring => super::uring::why_not(),
            #[cfg(all(target_os = "linux", feature = "glommio"))]
            Self::Glommio => super::glommio::why_not(),
            #[allow(unreachable_patterns, reason = "there may be none left")]
            kind => Some(format!("{kind} is not built in, or not for this system")),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Glommio => "glommio",
            Self::Epoll => "epoll",
        })
    }
}

impl FromStr for EngineKind {
    type Err = UnknownEngineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::BEST_FIRST.into_iter().chain([Self::Auto]);
        all.find(|kind| kind.to_string() == text).ok_or_else(|| UnknownEngineError(text.to_owned()))
    }
}

/// What runs on each executor, whichever engine it belongs to.
pub trait Body: Clone + Send + 'static {
    /// Runs on one executor, which ends with it.
    fn run<E: Engine>(self, engine: E) -> impl Future<Output = ()> + 'static;
}

/// Starts the executors on the engine that is wanted, and says in one line of the log which it is
/// and why not a better one.
///
/// # Errors
/// The engine that was asked for does not work here, or not even epoll can be had.
pub fn start<B: Body>(
    wanted: EngineKind,
    placement: &Placement,
    body: B,
) -> Result<Executors, EngineError> {
    placement.check()?;
    let name = &placement.name;
    if wanted != EngineKind::Auto {
        if let Some(why) = wanted.why_not() {
            return Err(EngineError::Unavailable { engine: wanted, why });
        }
        let executors = start_on_kind(wanted, placement, body)?;
        tracing::info!("{name}: {executors}, as asked for");
        return Ok(executors);
    }
    let mut passed_over = Vec::new();
    let [better @ .., last] = EngineKind::BEST_FIRST;
    for kind in better {
        let why = match kind.why_not() {
            Some(why) => why,
            None => match start_on_kind(kind, placement, body.clone()) {
                Ok(executors) => {
                    tracing::info!("{name}: {executors}{}", reasons(&passed_over));
                    return Ok(executors);
                }
                Err(error) => error.to_string(),
            },
        };
        passed_over.push((kind, why));
    }
    let executors = start_on_kind(last, placement, body)?;
    tracing::info!("{name}: {executors}{}", reasons(&passed_over));
    Ok(executors)
}

/// Why the better engines are not used, for the end of a line; what is true of several once.
fn reasons(passed_over: &[(EngineKind, String)]) -> String {
    let mut text = String::new();
    for (at, (kind, why)) in passed_over.iter().enumerate() {
        let same_as_next = passed_over.get(at + 1).is_some_and(|(_, next)| next == why);
        let same_as_last = at > 0 && passed_over[at - 1].1 == *why;
        text += if same_as_last { " and " } else { "; not " };
        text += &kind.to_string();
        if !same_as_next {
            text += ": ";
            text += why;
        }
    }
    text
}

/// `kind` is one that works here.
fn start_on_kind<B: Body>(
    kind: EngineKind,
    placement: &Placement,
    body: B,
) -> Result<Executors, EngineError> {
    match kind {
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        EngineKind::Uring => start_on::<super::Uring, B>(placement, body),
        #[cfg(all(target_os = "linux", feature = "glommio"))]
        EngineKind::Glommio => start_on::<super::Glommio, B>(placement, body),
        _ => start_on::<Epoll, B>(placement, body),
    }
}

fn start_on<E: Engine, B: Body>(placement: &Placement, body: B) -> Result<Executors, EngineError> {
    E::start(placement, move |engine| body.clone().run(engine))
}

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
        let mut best = None;
        for kind in EngineKind::BEST_FIRST {
            match kind.why_not() {
                None => {
                    best.get_or_insert(kind);
                    assert_eq!(names(kind).unwrap(), [kind.title(); 2]);
                }
                Some(why) => {
                    let error = names(kind).unwrap_err().to_string();
                    assert_eq!(error, format!("engine {kind} was asked for: {why}"));
                }
            }
        }
        assert_eq!(best, Some(EngineKind::Auto.chosen()));
        assert_eq!(names(EngineKind::Auto).unwrap(), [best.unwrap().title(); 2]);
    }

    #[test]
    fn a_reason_is_told_once() {
        let same = "io_uring is forbidden".to_owned();
        let over = |uring: &str| {
            reasons(&[(EngineKind::Uring, uring.to_owned()), (EngineKind::Glommio, same.clone())])
        };
        assert_eq!(reasons(&[]), "");
        assert_eq!(over("old"), "; not uring: old; not glommio: io_uring is forbidden");
        assert_eq!(over(&same), "; not uring and glommio: io_uring is forbidden");
    }

    #[test]
    fn names_are_read_and_others_refused() {
        for kind in EngineKind::BEST_FIRST.into_iter().chain([EngineKind::Auto]) {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        let error = "kqueue".parse::<EngineKind>().unwrap_err();
        assert_eq!(error.to_string(), "no engine kqueue: there are auto, uring, glommio and epoll");
    }
}
