-- version 3: ranges of what changes between zones; {schema} is the quoted name of the schema

ALTER TABLE {schema}.scenario_od
    ADD COLUMN d_min_low real,
    ADD COLUMN d_min_high real;
COMMENT ON COLUMN {schema}.scenario_od.d_min IS 'Change of the time (min)';
COMMENT ON COLUMN {schema}.scenario_od.d_min_low IS 'Range of the change: lower end (min)';
COMMENT ON COLUMN {schema}.scenario_od.d_min_high IS 'Range of the change: upper end (min)';

ALTER TABLE {schema}.scenario_access
    ADD COLUMN low double precision,
    ADD COLUMN high double precision;
COMMENT ON COLUMN {schema}.scenario_access.low IS 'Range of the change: lower end';
COMMENT ON COLUMN {schema}.scenario_access.high IS 'Range of the change: upper end';
