//! The algorithm in Redis: one script, one key, one round trip.
//!
//! The key is a list of marks, oldest first, each a text of five numbers: the times of its first and last request, how many
//! requests there were before it and with it since the key was made, and when the key was made. So both ends say all that there
//! is to know, and a request costs the same for any quota. Time is the server's own: the instances' clocks do not matter.
//!
//! The newest mark stays when it does not count any more, so that the key is the same key until its time to live is over,
//! which is a while after nothing counts: that its making is another says that counts were lost.

use redis::{FromRedisValue, ParsingError, Script};

use super::window::Rule;

/// How long a key is kept after nothing in it counts, in milliseconds: longer than clocks of two machines and delays of requests
/// make of the same hour.
const GRACE_MILLIS: u64 = 10_000;

/// Counts what is owed, and one request if there is room. Answers whether there was, how many count, in how many microseconds there is
/// room, or more of it, and when the key was made.
///
/// What is no list of marks is rubbish and goes.
pub const TAKE: &str = "
    local quota, window, span = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local take, owed, kept_millis = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
    local time = redis.call('TIME')
    local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
    local function read(at)
        local text = redis.pcall('LINDEX', KEYS[1], at)
        if not text then return nil end
        if type(text) == 'string' then
            local first, last, before, after, made = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
            if first then
                return { first = tonumber(first), last = tonumber(last), before = tonumber(before),
                    after = tonumber(after), made = made }
            end
        end
        redis.call('DEL', KEYS[1])
        return nil
    end
    local newest = read(-1)
    if newest and newest.last > now then
        if newest.last - now > window then
            redis.call('DEL', KEYS[1])
            newest = nil
        else
            now = newest.last
        end
    end
    local oldest = newest and read(0)
    while oldest and oldest.after ~= newest.after and oldest.last + window <= now do
        redis.call('LPOP', KEYS[1])
        oldest = read(0)
    end
    if not oldest then newest = nil end
    local used = 0
    if newest and newest.last + window > now then
        used = newest.after - oldest.before
    else
        oldest = nil
    end
    local admitted = 0
    if take == 1 and used + owed < quota then admitted = 1 end
    local added = owed + admitted
    if added > 0 then
        local before, made = 0, string.format('%.0f', now)
        if newest then before, made = newest.after, newest.made end
        local mark = { first = now, last = now, before = before, after = before + added, made = made }
        local is_same = used > 0 and now - newest.first < span
        if is_same then mark.first, mark.before = newest.first, newest.before end
        local text = string.format('%.0f %.0f %.0f %.0f %s', mark.first, mark.last, mark.before, mark.after, made)
        if is_same then redis.call('LSET', KEYS[1], -1, text) else redis.call('RPUSH', KEYS[1], text) end
        redis.call('PEXPIRE', KEYS[1], kept_millis)
        if not oldest or (is_same and oldest.after == newest.after) then oldest = mark end
        used = used + added
        newest = mark
    end
    local release = 0
    if oldest then
        local at, mark = 0, oldest
        while take == 1 and admitted == 0 and mark and newest.after - mark.after >= quota do
            at = at + 1
            mark = read(at)
        end
        if mark then release = mark.last + window - now end
    end
    local made = ''
    if newest then made = newest.made end
    return { admitted, used, release, made }";

/// What Redis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub admitted: bool,
    /// How many requests count, what was owed and this one included.
    pub used: u64,
    /// In how many microseconds fewer do; for what was refused: until there is room.
    pub release: i64,
    /// When the key was made; 0 where there is none.
    pub made: i64,
}

impl FromRedisValue for Answer {
    fn from_redis_value(value: redis::Value) -> Result<Self, ParsingError> {
        let (admitted, used, release, made): (i64, u64, i64, String) =
            FromRedisValue::from_redis_value(value)?;
        Ok(Self {
            admitted: admitted == 1,
            used,
            release,
            made: made.parse().unwrap_or_default(),
        })
    }
}

/// A call of the script.
pub(super) fn call<'a>(
    script: &'a Script,
    key: &str,
    rule: Rule,
    take: bool,
    owed: u64,
) -> redis::ScriptInvocation<'a> {
    let window_millis = u64::try_from(rule.window / 1_000).unwrap_or_default();
    let mut call = script.key(key);
    call.arg(rule.quota)
        .arg(rule.window)
        .arg(rule.span())
        .arg(u8::from(take))
        .arg(owed)
        .arg(window_millis + GRACE_MILLIS);
    call
}
