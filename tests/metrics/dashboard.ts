// What Grafana takes as a dashboard, from its own types; for test_dashboard.py, which
// puts the dashboard behind this text: `const board = {...} satisfies Written<Board>`.
import type * as grafana from "@grafana/schema";
import type { Options as BarGauge } from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {
  FieldConfig as LineConfig,
  Options as TimeSeries,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type { Dataquery } from "@grafana/grafana-foundation-sdk/prometheus";

// The types have enums, of which JSON has the values.
type Written<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer Value extends number}`
      ? Value
      : never
    : T extends boolean | null | undefined
      ? T
      : T extends (infer One)[]
        ? Written<One>[]
        : T extends object
          ? { [Key in keyof T]: Written<T[Key]> }
          : T;

// Of options and queries the types of a panel know nothing; those of its plugin do.
type PanelOf<Type, Options, Custom> = Omit<
  grafana.Panel,
  "type" | "options" | "fieldConfig" | "targets"
> & {
  type: Type;
  options: Options;
  fieldConfig: {
    defaults: Omit<grafana.FieldConfig, "custom"> & { custom?: Custom };
    overrides: grafana.FieldConfigSource["overrides"];
  };
  targets: (Omit<Dataquery, "_implementsDataqueryVariant" | "datasource"> & {
    datasource: grafana.DataSourceRef;
  })[];
};
type Panels =
  | PanelOf<"stat", Partial<Stat>, never>
  | PanelOf<"bargauge", Partial<BarGauge>, never>
  | PanelOf<"timeseries", TimeSeries, LineConfig>;
type Board = Omit<grafana.Dashboard, "panels"> & { panels: Panels[] };

