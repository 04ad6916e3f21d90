//! A set that gateways share: texts with the moment at which each may be forgotten, and word of each change.

use ::redis::{Pipeline, cmd, pipe};

use super::{Away, Redis};

/// Texts read or written at once.
const BATCH: usize = 500;

impl Redis {
    /// Adds texts, each with the unix time in seconds at which it may be forgotten (`None`: never), and tells all gateways what `word`
    /// makes of each.
    pub async fn publish(&self, texts: &[(String, Option<u64>)], word: impl Fn(&str) -> String) -> Result<(), Away> {
        for texts in texts.chunks(BATCH) {
            let mut commands = pipe();
            for (text, until) in texts {
                let until = until.map_or_else(|| "+inf".to_owned(), |until| until.to_string());
                commands.cmd("ZADD").arg(self.set()).arg(until).arg(text).ignore();
                self.say(&mut commands, &word(text));
            }
            self.send::<()>(&commands).await?;
        }
        Ok(())
    }

    /// Removes texts, and tells all gateways `word`.
    pub async fn withdraw(&self, texts: &[Vec<u8>], word: &str) -> Result<(), Away> {
        let mut commands = pipe();
        if !texts.is_empty() {
            commands.cmd("ZREM").arg(self.set()).arg(texts).ignore();
        }
        self.say(&mut commands, word);
        self.send(&commands).await
    }

    /// Forgets the texts that could be forgotten before `moment`, in unix seconds.
    pub async fn forget_before(&self, moment: u64) -> Result<(), Away> {
        let mut commands = pipe();
        commands.cmd("ZREMRANGEBYSCORE").arg(self.set()).arg("-inf").arg(format!("({moment}")).ignore();
        self.send(&commands).await
    }

    /// Some of the texts, and where to go on; 0 is the beginning and the end. A text that is there all the time is read, perhaps twice.
    pub async fn read(&self, cursor: u64) -> Result<(u64, Vec<Vec<u8>>), Away> {
        let mut commands = pipe();
        commands.add_command(cmd("ZSCAN")).arg(self.set()).arg(cursor).arg("COUNT").arg(BATCH);
        let ((cursor, found),): ((u64, Vec<Vec<u8>>),) = self.send(&commands).await?;
        Ok((cursor, found.into_iter().step_by(2).collect())) // behind each text stands its moment
    }

    pub(super) fn channel(&self) -> String {
        self.set()
    }

    /// The set and the channel have one name; the two do not meet.
    fn set(&self) -> String {
        format!("{}revocations", self.prefix())
    }

    fn say(&self, commands: &mut Pipeline, word: &str) {
        commands.cmd("PUBLISH").arg(self.channel()).arg(word).ignore();
    }
}
