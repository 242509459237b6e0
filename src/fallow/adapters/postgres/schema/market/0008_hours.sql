-- By the hour (since 1970, UTC): the most nodes that were busy or idle at once in it (NULL: nobody counted), and the jobs
-- that had ended by its end, ever. Two rows tell what ended between them; 8,760 rows a year.
CREATE TABLE market.hour (
    hour bigint PRIMARY KEY,
    nodes bigint,
    done bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL
);
INSERT INTO market.hour (hour, done, failed, cancelled)
SELECT
    ended_at / 3600000,
    sum(count(*) FILTER (WHERE state = 'done')) OVER up_to,
    sum(count(*) FILTER (WHERE state = 'failed')) OVER up_to,
    sum(count(*) FILTER (WHERE state = 'cancelled')) OVER up_to
FROM market.job WHERE ended_at IS NOT NULL
GROUP BY ended_at / 3600000
WINDOW up_to AS (ORDER BY ended_at / 3600000);
