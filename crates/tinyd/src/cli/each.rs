//! A command for several ids: each is asked for at once, each answer is told in the order given, and one failure does not
//! keep the others from being tried.

use std::future::Future;

use tinyd_core::{Error, Result as Answer};

use super::{
    failure::{Result, say},
    output,
};

/// Asks for each name; prints a line for each that went well, tells each failure, and exits with 1 if there was one.
pub(super) async fn each<F>(names: Vec<String>, ask: impl Fn(String) -> F) -> Result<u8>
where
    F: Future<Output = Answer<String>> + Send + 'static,
{
    let tasks: Vec<_> = names.into_iter().map(|name| tokio::spawn(ask(name))).collect();
    let mut code = 0;
    for task in tasks {
        match task.await.unwrap_or_else(|lost| Err(Error::internal(&lost))) {
            Ok(line) => output::print(&format!("{line}\n"))?,
            Err(error) => {
                say(&error.to_string());
                code = 1;
            }
        }
    }
    Ok(code)
}
