// The public side of a site: a workspace of Azure Machine Learning and a registry without an admin user.
// What `insitu provision` makes where it is missing, for those who deploy by template:
//
//   az deployment group create --resource-group GROUP --template-file workspace.bicep \
//     --parameters workspace=WORKSPACE registry=REGISTRY publisher=OBJECT_ID
//
// workspace.json is the same as an ARM template. No data of the site goes into any of these.

@description('The name of the workspace: [azure] workspace of the site.')
param workspace string

@description('The name of the registry: the first word of registry of the site.')
@minLength(5)
@maxLength(50)
param registry string

@description('Where everything is made: [azure] location of the site.')
param location string = resourceGroup().location

@description('The object id of the service principal that insitu signs in as; empty leaves the roles to others.')
param publisher string = ''

var unique = 'i${take(toLower(replace(replace(workspace, '-', ''), '_', '')), 8)}${uniqueString(resourceGroup().id, workspace)}'
var acrPush = '8311e382-0749-4cb8-b61a-304f252e45ec'
var dataScientist = 'f6c7c914-8db3-469d-8ca1-694a8f32e121'

resource images 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  name: registry
  location: location
  sku: { name: 'Standard' }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
  }
}

resource storage 'Microsoft.Storage/storageAccounts@2023-01-01' = {
  name: take(unique, 24)
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-02-01' = {
  name: take(unique, 24)
  location: location
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    accessPolicies: []
  }
}

resource learning 'Microsoft.MachineLearningServices/workspaces@2024-04-01' = {
  name: workspace
  location: location
  identity: { type: 'SystemAssigned' }
  properties: {
    friendlyName: workspace
    storageAccount: storage.id
    keyVault: vault.id
    containerRegistry: images.id
  }
}

resource mayPublish 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(publisher)) {
  name: guid(images.id, publisher, acrPush)
  scope: images
  properties: {
    principalId: publisher
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPush)
  }
}

resource mayTrain 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(publisher)) {
  name: guid(learning.id, publisher, dataScientist)
  scope: learning
  properties: {
    principalId: publisher
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataScientist)
  }
}

output loginServer string = images.properties.loginServer
output workspaceId string = learning.id
