/** The routes of the management API for the settings of the platform. */
import { change } from '../../core/config/management.ts';
import { changeSettings } from '../../core/config/settings.ts';
import * as contract from '../../../contract/index.ts';
import { ref } from '../../../contract/index.ts';
import { type Api, type ConsoleDeps, operatorOnly } from './shared.ts';

export function addSettings(api: Api, deps: ConsoleDeps): void {
  const tags = ['settings'];
  const settings = () => {
    const { optOutWords, pushDelaysSeconds, foreignNumberCodes, ...others } = deps.directory.settings();
    const lists = { optOutWords: [...optOutWords], pushDelaysSeconds: [...pushDelaysSeconds], foreignNumberCodes: [...foreignNumberCodes] };
    return { ...others, ...lists };
  };

  api.get(
    '/v1/settings',
    {
      config: operatorOnly,
      schema: {
        operationId: 'getSettings',
        summary: 'The settings of the platform',
        tags,
        response: { 200: ref(contract.settingsSchema) },
      },
    },
    async () => settings(),
  );

  api.patch(
    '/v1/settings',
    {
      config: operatorOnly,
      schema: {
        operationId: 'changeSettings',
        summary: 'Change settings, on every node within a second; null restores the default',
        tags,
        body: contract.settingsChange,
        response: { 200: ref(contract.settingsSchema) },
      },
    },
    async ({ body }) => {
      await change(deps, (sql) => changeSettings(sql, body));
      return settings();
    },
  );
}
